"""Any method on any data: `--config=configs/default.py:simclr,digits`.

The argument and every field are described in ssljax/config.py; change one with
`--config.field=value`.
"""

from ssljax.config import get_config  # noqa: F401
