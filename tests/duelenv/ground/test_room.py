"""How much memory is free, as the kernel and control groups of both versions say it."""

import os

import pytest
import torch

from duelenv.ground import room
from duelenv.ground.room import free_bytes, host_free_bytes


def files(root, **contents):
    for name, text in contents["of"].items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


MEMINFO = "MemTotal:       100 kB\nMemFree:          20 kB\nMemAvailable:     50 kB\n"


def test_the_kernel_says_what_is_available(tmp_path):
    assert host_free_bytes(files(tmp_path, of={"proc/meminfo": MEMINFO})) == 50 * 1024


def test_the_tightest_control_group_counts_and_files_that_can_be_dropped_do_not(tmp_path):
    group = "sys/fs/cgroup"
    root = files(
        tmp_path,
        of={
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "0::/outer/inner\n",
            f"{group}/outer/inner/memory.max": "max\n",
            f"{group}/outer/inner/memory.current": "7000\n",
            f"{group}/outer/memory.max": "30000\n",
            f"{group}/outer/memory.current": "20000\n",
            f"{group}/outer/memory.stat": "anon 1\ninactive_file 5000\n",
        },
    )
    assert host_free_bytes(root) == 30_000 - 20_000 + 5_000
    (root / group / "outer/inner/memory.max").write_text("6000\n")
    assert host_free_bytes(root) == 0  # more was taken than is allowed now


def test_a_container_sees_its_own_group_at_the_top(tmp_path):
    root = files(
        tmp_path,
        of={
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "3:cpu,cpuacct:/x\n2:memory:/docker/abc\n1:name=systemd:/x\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9000\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "5000\n",
            "sys/fs/cgroup/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 250\n",
        },
    )
    assert host_free_bytes(root) == 4250
    (root / "sys/fs/cgroup/memory/memory.limit_in_bytes").write_text(f"{2**63 - 4096}\n")
    assert host_free_bytes(root) == 50 * 1024


def test_other_systems_count_pages_or_say_nothing(tmp_path, monkeypatch):
    counts = {"SC_AVPHYS_PAGES": 3, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(os, "sysconf", counts.__getitem__)
    assert host_free_bytes(tmp_path) == 3 * 4096

    def unknown(name):
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(os, "sysconf", unknown)
    assert host_free_bytes(tmp_path) is None


def test_devices_are_asked_in_their_own_way(monkeypatch):
    monkeypatch.setattr(room, "host_free_bytes", lambda: 11)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 50)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 20)
    assert free_bytes(torch.device("cpu")) == 11
    assert free_bytes(torch.device("cuda", 1)) == 130
    assert free_bytes(torch.device("meta")) is None


@pytest.mark.skipif(not os.path.exists("/proc/meminfo"), reason="Linux only")
def test_this_machine_says_something():
    found = host_free_bytes()
    assert found is not None and found > 2**20
