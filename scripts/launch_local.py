"""Runs a command as N processes of one distributed run on this machine.

  python scripts/launch_local.py --processes=2 -- \
    python -m ssljax.main --config=configs/default.py:simclr,digits --workdir=runs/two

Every process gets its own --config.distributed.* flags; on CPU, XLA_FLAGS decides how many devices
each has. The first failure stops all. Exits with the first non-zero code.
"""

import argparse
import signal
import socket
import subprocess
import sys
import time


def free_port() -> int:
  with socket.socket() as s:
    s.bind(('localhost', 0))
    return s.getsockname()[1]


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--processes', type=int, default=2)
  parser.add_argument('command', nargs=argparse.REMAINDER)
  args = parser.parse_args()
  # Only the first is ours: a later one belongs to the command.
  command = args.command[1:] if args.command[:1] == ['--'] else args.command
  if args.processes < 1 or not command:
    parser.error('wanted --processes=N (1 or more) and, after --, a command')
  address = f'localhost:{free_port()}'
  children = [
    subprocess.Popen(
      [
        *command,
        f'--config.distributed.coordinator={address}',
        f'--config.distributed.num_processes={args.processes}',
        f'--config.distributed.process_id={i}',
      ]
    )
    for i in range(args.processes)
  ]

  def pass_on(number, _):
    for child in children:
      child.send_signal(number)

  signal.signal(signal.SIGTERM, pass_on)
  signal.signal(signal.SIGINT, pass_on)
  code = 0
  while any(child.poll() is None for child in children):
    failed = [child.returncode for child in children if child.returncode]
    if failed and not code:
      code = failed[0]
      pass_on(signal.SIGTERM, None)
    time.sleep(0.1)
  return code or next((child.returncode for child in children if child.returncode), 0)


if __name__ == '__main__':
  sys.exit(main())
