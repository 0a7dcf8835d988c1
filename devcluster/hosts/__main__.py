"""`python -m devcluster.hosts`: play N KubeVirt hosts against an API server until told to stop."""

import argparse
import asyncio
import gc
import logging
import signal
from dataclasses import replace
from pathlib import Path

from devcluster.hosts.api import Api
from devcluster.hosts.kubelets import kubelets
from devcluster.hosts.redfish import redfish_app
from devcluster.hosts.servers import control_app, handler_app, mutual_tls, serve, server_tls
from devcluster.hosts.simulator import Simulator, names
from vdcos.testing.hypervisor.values import Timings


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m devcluster.hosts", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--hosts", type=int, required=True, help="how many; they are called host-1 to host-N")
    parser.add_argument("--handler-port", type=int, required=True, help="virt-handler's server (mutual TLS)")
    parser.add_argument("--control-port", type=int, required=True, help="faults, state and ledger (HTTP)")
    parser.add_argument("--bmc-port", type=int, required=True, help="the hosts' BMCs (Redfish, TLS)")
    parser.add_argument("--bmc-cert", type=Path, required=True)
    parser.add_argument("--bmc-key", type=Path, required=True)
    parser.add_argument("--bmc-password", type=Path, required=True, help="a file that holds it")
    parser.add_argument("--tls-cert", type=Path, required=True)
    parser.add_argument("--tls-key", type=Path, required=True)
    parser.add_argument("--client-ca", type=Path, required=True)
    parser.add_argument("--ledger", type=Path, help="a file that every ledger entry is appended to")
    parser.add_argument(
        "--time-scale", type=float, default=0.2, help="durations as a multiple of those of real hosts (default: 0.2)"
    )
    parser.add_argument(
        "--lease", type=float, default=10.0, help="seconds after which a kubelet renews its Lease (default: 10)"
    )
    return parser.parse_args()


async def _run(options: argparse.Namespace) -> None:
    timings = replace(Timings().scaled(options.time_scale), lease=options.lease)
    async with Api(options.kubeconfig) as api:
        with kubelets(names(options.hosts)) as ports:
            simulator = Simulator(api, options.hosts, timings, options.ledger, ports)
            tls = mutual_tls(options.tls_cert, options.tls_key, options.client_ca)
            runners = [
                await serve(handler_app(simulator), options.handler_port, tls),
                await serve(control_app(simulator), options.control_port),
                await serve(
                    redfish_app(simulator, options.bmc_password.read_text().strip()),
                    options.bmc_port,
                    server_tls(options.bmc_cert, options.bmc_key),
                ),
            ]
            playing = asyncio.create_task(simulator.run())
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, playing.cancel)
            try:
                await playing
            except asyncio.CancelledError:
                logging.getLogger(__name__).info("told to stop")
            finally:
                for runner in runners:
                    await runner.cleanup()


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # The state is a few big, long-lived tables: rescanning them at the default rate costs more than it frees.
    gc.set_threshold(50_000, 20, 50)
    asyncio.run(_run(_arguments()))


if __name__ == "__main__":
    main()
