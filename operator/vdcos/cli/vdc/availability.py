"""``kubectl vdc ha plan`` and ``kubectl vdc drill``: what ``vdcos ha`` finds out, for people."""

from vdcos.cli.plan import count
from vdcos.cli.vdc.objects import Tree
from vdcos.cli.vdc.screen import Screen, Tone, Word


def show_plan(found: Tree, screen: Screen) -> None:
    """Policies, hosts, and failures under way."""
    if not found["policies"]:
        screen.line(Word("There is no HAPolicy: if a host dies, its VMs stay down.", "bad"))
    else:
        screen.table(
            ("POLICY", "READY", "HOSTS", "CONNECTED", "FAILED", "ADMISSION", "CAPACITY", "WAITING", "STAY DOWN"),
            [
                (
                    each["name"],
                    Word("paused" if each["paused"] else each["ready"], "good" if each["ready"] == "Ready" else "bad"),
                    *(str(each[part]) for part in ("hosts", "connected", "failed")),
                    each["admission"],
                    Word(each["failoverCapacity"], "bad" if each["failoverCapacity"] == "CapacityMissing" else ""),
                    str(each["waiting"]),
                    _stays(each["staysDown"], each["worstHost"]),
                )
                for each in found["policies"]
            ],
        )
    screen.line()
    screen.table(
        ("HOST", "STATE", "POLICY", "CAN BE FENCED", "VMS", "IF IT DIED"),
        [
            (
                each["name"],
                Word(each["state"], "good" if each["state"] == "Connected" else "bad"),
                each["policy"] or "-",
                Word("yes", "good") if each["fenceable"] == "Declared" else Word("by a person only", "wait"),
                str(each["vms"]),
                _fate(each),
            )
            for each in found["hosts"]
        ],
    )
    screen.line()
    if not found["failures"]:
        screen.line(Word("No failure is under way.", "good"))
        return
    screen.table(
        ("FAILURE", "HOST", "PHASE", "REASON", "WHY"),
        [
            (Word(each["name"], "bad"), each["host"], each["phase"], each["reason"], each["why"])
            for each in found["failures"]
        ],
    )


def _stays(number: int, worst: str) -> Word:
    if not number:
        return Word("none", "good")
    return Word(f"{number}, worst host {worst}" if worst else str(number), "wait")


def _fate(host: Tree) -> Word:
    if host["staysDown"] is None:
        return Word("not known", "dim")
    if host["staysDown"]:
        return Word(f"{host['restarts']} restart, {host['staysDown']} stay down", "wait")
    return Word("all restart" if host["restarts"] else "nothing runs there", "good" if host["restarts"] else "dim")


def show_drill(found: Tree, screen: Screen) -> None:
    """Each VM of the host, in the order of restart."""
    vms = found["virtualMachines"]
    tone: Tone = "bad" if found["stays"] else "good"
    screen.line(
        (
            f"If {found['host']} died now, ",
            Word(f"{found['restarts']} of {count(len(vms), 'VM')} would restart", tone),
            f" and {found['stays']} would not. Nothing was touched.",
        )
    )
    if not vms:
        return
    screen.line()
    screen.table(
        ("TIER", "VM", "PRIORITY", "TARGET", "REASON", "WHY"),
        [
            (
                "-" if vm["tier"] is None else str(vm["tier"]),
                f"{vm['namespace']}/{vm['name']}",
                vm["priority"],
                Word(vm["target"], "good") if vm["target"] else "-",
                vm["reason"] if vm["target"] else Word(vm["reason"], "bad"),
                vm["why"] or "-",
            )
            for vm in vms
        ],
    )
