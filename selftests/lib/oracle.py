# SPDX-License-Identifier: GPL-2.0
"""
What the kernel's own ip_tables did in a test, kept for a later run of the same
test with xtjit's module, which cannot be loaded beside it.  $XTJIT_ORACLE: the folder.
"""
import hashlib
import os
import pickle
import sys


def in_use():
    return 'XTJIT_ORACLE' in os.environ


def _path(key):
    name = os.path.splitext(os.path.basename(sys.argv[0]))[0]
    digest = hashlib.sha256(repr(key).encode()).hexdigest()[:24]
    return os.path.join(os.environ['XTJIT_ORACLE'], f'{name}-{digest}')


def keep(key, value):
    os.makedirs(os.environ['XTJIT_ORACLE'], exist_ok=True)
    with open(_path(key), 'wb') as f:
        pickle.dump(value, f)


def get(key):
    """What was kept under this key; KeyError if there is nothing."""
    try:
        with open(_path(key), 'rb') as f:
            return pickle.load(f)
    except FileNotFoundError:
        raise KeyError(f'nothing was recorded for {key!r}') from None
