"""Errors of somebody else's code, told without their text."""


def place(error: BaseException) -> str:
    """What was raised and where. Not its text: that may hold a secret, or an address or a time, and conditions must
    not change from look to look."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    where = f" in {frame.tb_frame.f_globals.get('__name__')} line {frame.tb_lineno}" if frame is not None else ""
    return f"{type(error).__name__}{where}"
