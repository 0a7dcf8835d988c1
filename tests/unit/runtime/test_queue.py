"""The work queue: one appointment per item, one look at a time, delays that double."""

from vdcos.core.objects import Key
from vdcos.runtime.queue import LONGEST_BACKOFF, Item, Queue

A, B = Item("toy", Key("ns", "a")), Item("toy", Key("ns", "b"))


def test_items_come_in_order_of_when_they_are_due() -> None:
    queue = Queue()
    queue.add(A, 2.0)
    queue.add(B, 1.0)
    assert queue.pop(0.5) is None
    assert queue.next_due() == 1.0
    assert [queue.pop(3.0), queue.pop(3.0), queue.pop(3.0)] == [B, A, None]


def test_an_item_waits_once_and_the_earlier_appointment_stands() -> None:
    queue = Queue()
    queue.add(A, 5.0)
    queue.add(A, 1.0)
    queue.add(A, 9.0)
    assert len(queue) == 1
    assert queue.pop(1.0) == A
    assert queue.pop(10.0) is None


def test_an_item_in_flight_is_not_handed_out_again_but_is_due_when_done() -> None:
    queue = Queue()
    queue.add(A, 0.0)
    assert queue.pop(0.0) == A
    queue.add(A, 1.0)
    assert queue.pop(2.0) is None
    queue.done(A, 2.0)
    assert queue.pop(2.0) == A
    queue.done(A, 3.0)
    assert queue.pop(99.0) is None
    assert len(queue) == 0


def test_done_makes_an_appointment_unless_an_earlier_one_exists() -> None:
    queue = Queue()
    queue.add(A, 0.0)
    queue.pop(0.0)
    queue.done(A, 10.0, after=5.0)
    assert queue.next_due() == 15.0
    queue.add(B, 0.0)
    queue.pop(0.0)
    queue.add(B, 11.0)
    queue.done(B, 10.0, after=5.0)
    assert queue.next_due() == 11.0


def test_failures_double_the_delay_up_to_a_minute_and_success_forgets_them() -> None:
    queue = Queue(jitter=lambda: 1.0)
    now, delays = 0.0, []
    queue.add(A, now)
    for _ in range(20):
        assert queue.pop(now) == A
        queue.failed(A, now)
        due = queue.next_due()
        assert due is not None
        delays.append(round(due - now, 6))
        now = due
    assert delays[:4] == [0.01, 0.02, 0.04, 0.08]
    assert delays[-1] == LONGEST_BACKOFF
    assert queue.failures(A) == 20
    queue.pop(now)
    queue.done(A, now)
    assert queue.failures(A) == 0


def test_events_do_not_shorten_a_back_off_that_began_after_them() -> None:
    queue = Queue(jitter=lambda: 1.0)
    queue.add(A, 0.0)
    queue.pop(0.0)
    queue.add(A, 0.0)
    queue.failed(A, 0.0, at_least=3.0)
    queue.add(A, 1.0)
    assert queue.pop(2.9) is None, "nor by one that comes after it"
    assert queue.pop(3.0) == A
    queue.failed(A, 3.0, at_least=60.0)
    queue.forget(A)
    queue.add(A, 4.0)
    assert queue.pop(4.0) == A, "its owner changed it"


def test_depth_and_age_count_what_is_overdue() -> None:
    queue = Queue()
    queue.add(A, 1.0)
    queue.add(B, 4.0)
    assert (queue.depth(3.0), queue.oldest_age(3.0)) == (1, 2.0)
    queue.pop(3.0)
    assert (queue.depth(3.0), queue.oldest_age(3.0)) == (0, 0.0)
