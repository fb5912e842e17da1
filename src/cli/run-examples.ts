/** What `volt run --help` shows at its end: examples for each group of options. */
export const RUN_EXAMPLES = `
Examples:
  Kernel
    volt run --kernel vmlinuz --initrd initrd.img
    volt run --kernel vmlinux --cmdline "console=ttyS0 quiet panic=-1"
  Machine
    volt run --cpus 8,sockets=2,cores=2,threads=2 --memory 2G
    volt run --cpus 2,max=8 --numa cpus=0,memory=1G --numa cpus=1,memory=1G
  Devices
    volt run --kernel vmlinux --disk root.img --net user --rng
    volt run --kernel vmlinux --disk path=base.img,overlay=web.ovl --balloon
    volt run --kernel vmlinux --net tap=tap0 --vsock path=vm.sock
  Configuration and messages
    volt run --config vm.json --cpus 4 --log-level info
  Running
    volt run --config vm.json --name web --metrics 127.0.0.1:9100
    volt run --config vm.json --timeline --shutdown-timeout 10
  Confinement
    volt run --config vm.json --jail /srv/web --uid 990 --gid 990`;
