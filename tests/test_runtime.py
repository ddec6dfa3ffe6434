"""What a process finds out about where it runs."""

import importlib.util

import pytest

from ssljax import runtime
from ssljax.errors import InputError

INDEXED_JOB = {'KUBERNETES_SERVICE_HOST': '10.0.0.1', 'JOB_COMPLETION_INDEX': '0'}


@pytest.mark.parametrize(
  ('environment', 'expected'),
  [
    ({}, False),
    ({'SLURM_NTASKS': '1', 'OMPI_COMM_WORLD_SIZE': ''}, False),
    ({'SLURM_NTASKS': '4', 'SLURM_STEP_NODELIST': 'node[1-4]'}, True),
    ({'SLURM_NTASKS': '4', 'SLURM_PROCID': '0'}, False),  # a batch script, or a shell of salloc
    ({'SLURM_NTASKS': '1', 'SLURM_STEP_NODELIST': 'node1'}, False),
    ({'OMPI_COMM_WORLD_SIZE': '2'}, True),
    ({'JAX_NUM_PROCESSES': '2'}, True),
    ({'TPU_WORKER_HOSTNAMES': 'localhost'}, False),
    ({'TPU_WORKER_HOSTNAMES': 'host-0,host-1'}, True),
    ({'KUBERNETES_SERVICE_HOST': '10.0.0.1'}, False),
    (INDEXED_JOB, True),
  ],
)
def test_has_company(environment, expected, monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: name)
  assert runtime.has_company(environment) is expected


def test_an_indexed_job_without_the_package_says_what_to_install(monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(InputError, match='pip install kubernetes'):
    runtime.has_company(INDEXED_JOB)
