"""Drives a microVM through Firecracker's API as Python programs do: with http.client over a Unix socket.

Usage: client.py FIRECRACKER KERNEL FOLDER
"""

import http.client
import json
import os
import socket
import subprocess
import sys
import time


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self.path)


class MicroVm:
    def __init__(self, program, path):
        self.process = subprocess.Popen(
            [program, "--api-sock", path, "--id", "python"], stdout=subprocess.DEVNULL
        )
        self.connection = UnixConnection(path)
        for _ in range(1000):
            try:
                self.connection.connect()
                return
            except OSError:
                time.sleep(0.01)
        raise TimeoutError(path)

    def request(self, method, path, body=None):
        """Several requests go over one connection."""
        text = None if body is None else json.dumps(body)
        self.connection.request(method, path, text, {"Content-Type": "application/json"})
        response = self.connection.getresponse()
        content = response.read()
        if response.status >= 300:
            raise RuntimeError(f"{method} {path}: {response.status} {content}")
        return json.loads(content) if content else None

    def state(self):
        return self.request("GET", "/")["state"]

    def stop(self):
        self.process.terminate()
        self.process.wait()


def main(program, kernel, folder):
    at = lambda name: os.path.join(folder, name)
    first = MicroVm(program, at("first.sock"))
    first.request("PUT", "/boot-source", {"kernel_image_path": kernel, "boot_args": "loop"})
    first.request("PUT", "/machine-config", {"vcpu_count": 2, "mem_size_mib": 64})
    first.request(
        "PUT",
        "/drives/root",
        {"drive_id": "root", "path_on_host": at("disk.img"), "is_root_device": False},
    )
    first.request("PUT", "/vsock", {"guest_cid": 3, "uds_path": at("first.vsock")})
    first.request("PUT", "/mmds", {"k": "v"})
    first.request("PUT", "/actions", {"action_type": "InstanceStart"})
    print("first:", first.state())
    first.request("PATCH", "/drives/root", {"drive_id": "root", "path_on_host": at("other.img")})
    first.request("PATCH", "/vm", {"state": "Paused"})
    print("paused:", first.state())
    first.request("PATCH", "/mmds", {"l": "w"})
    metadata = first.request("GET", "/mmds")
    print("metadata:", metadata["k"], metadata["l"])
    first.request("PUT", "/snapshot/create", {"snapshot_path": at("state"), "mem_file_path": at("memory")})
    clones = []
    for name in ("second", "third"):
        clone = MicroVm(program, at(f"{name}.sock"))
        clone.request(
            "PUT",
            "/snapshot/load",
            {
                "snapshot_path": at("state"),
                "mem_backend": {"backend_type": "File", "backend_path": at("memory")},
                "vsock_override": {"uds_path": at(f"{name}.vsock")},
                "resume_vm": True,
            },
        )
        print("restored:", clone.state())
        clones.append(clone)
    for each in [first, *clones]:
        each.stop()


main(*sys.argv[1:])
