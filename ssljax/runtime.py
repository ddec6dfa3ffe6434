"""What a process sets up once, and what it can say about itself."""

import importlib.metadata
import importlib.util
import os
import pathlib
import resource
import subprocess
import sys
from collections.abc import Mapping

import jax

from ssljax.errors import InputError


def cache_folder() -> pathlib.Path:
  """Where compiled programs are kept between runs, in the user's cache folder."""
  home = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
  return pathlib.Path(home) / 'ssljax' / 'compiled'


def use_compilation_cache(where: str = 'auto') -> None:
  """Keeps compiled programs: 'auto' in the user's cache folder, 'off' nowhere, else in a folder.

  A JAX_COMPILATION_CACHE_DIR in the environment has the last word over 'auto'.
  """
  if where == 'off':
    jax.config.update('jax_enable_compilation_cache', False)
    return
  if where != 'auto' or not jax.config.jax_compilation_cache_dir:
    folder = cache_folder() if where == 'auto' else pathlib.Path(where)
    jax.config.update('jax_compilation_cache_dir', str(folder))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)


def connect(coordinator: str = '', num_processes: int = 0, process_id: int = -1) -> None:
  """Joins the other processes of this run, before anything touches a device.

  Empty arguments leave it to jax where the environment says that there are others, see
  `has_company`; elsewhere nothing happens.
  """
  if jax.distributed.is_initialized():
    return
  if coordinator or num_processes or process_id >= 0:
    if not (coordinator and num_processes > 0 and 0 <= process_id < num_processes):
      raise InputError(
        f'distributed.coordinator={coordinator!r}, num_processes={num_processes}, '
        f'process_id={process_id}: wanted host:port, a positive count and an id below it'
      )
    jax.distributed.initialize(coordinator, num_processes, process_id)
    return
  if has_company(os.environ):
    jax.distributed.initialize()
  elif int(os.environ.get('SLURM_NTASKS') or 1) > 1:
    print(
      f'one process, of the {os.environ["SLURM_NTASKS"]} tasks of this Slurm job: srun starts all',
      file=sys.stderr,
    )


def meet(where: str) -> None:
  """Waits for the other processes of this run, hours if need be.

  For places where processes have worked by themselves for unequal times: what follows, in which
  they exchange arrays, gives up after 30 seconds of waiting on CPU.
  """
  if jax.process_count() > 1:
    from orbax.checkpoint import multihost

    hours = 12
    multihost.get_barrier_sync_fn()(key=f'ssljax {where}', timeout_ms=hours * 3_600_000)


def has_company(environment: Mapping[str, str]) -> bool:
  """Whether Slurm, Open MPI, JAX_NUM_PROCESSES, Cloud TPU or a Kubernetes job (GKE) says that there
  is more than one process, where jax finds the others by itself.

  Under Slurm only what srun has started has company: a batch script, or a shell of salloc, is told
  of its tasks too, but is one process.

  Raises InputError in an indexed Kubernetes job without the package that jax asks the cluster with.
  """
  several = ('OMPI_COMM_WORLD_SIZE', 'JAX_NUM_PROCESSES')
  if 'SLURM_STEP_NODELIST' in environment:
    several = ('SLURM_NTASKS', *several)
  if ',' in environment.get('TPU_WORKER_HOSTNAMES', ''):
    return True
  if any(int(environment.get(name) or 1) > 1 for name in several):
    return True
  if not {'KUBERNETES_SERVICE_HOST', 'JOB_COMPLETION_INDEX'} <= set(environment):
    return False
  if importlib.util.find_spec('kubernetes') is None:
    raise InputError(
      'this is an indexed Kubernetes job, where jax finds the other processes with the package '
      'kubernetes: pip install kubernetes, or set distributed.coordinator, num_processes and '
      'process_id'
    )
  return True


def versions() -> dict[str, str]:
  """The versions that decide whether a run can be repeated to the bit."""
  names = ('ssljax', 'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'grain', 'numpy')
  return {name: importlib.metadata.version(name) for name in names}


def commit() -> str:
  """The commit of the source in use, with '+' if files have changed since; '' outside git."""
  folder = pathlib.Path(__file__).resolve().parent

  def git(*words):
    return subprocess.run(
      ['git', '-C', str(folder), *words], capture_output=True, text=True, check=True
    ).stdout.strip()

  try:
    changed = git('status', '--porcelain', '--untracked-files=no', '--', str(folder))
    return git('rev-parse', 'HEAD') + ('+' if changed else '')
  except (OSError, subprocess.CalledProcessError):
    return ''


def peak_memory_bytes() -> int:
  """The most memory this process has held: of its devices where they tell, else of the host."""
  stats = [device.memory_stats() or {} for device in jax.local_devices()]
  on_device = sum(s.get('peak_bytes_in_use', 0) for s in stats)
  kilobyte = 1 if sys.platform == 'darwin' else 1024
  return on_device or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilobyte
