#!/bin/sh
# Starts a Kubernetes cluster of one node in a network namespace of its own, and ends it on SIGTERM.
# cluster.sh DIR: programs are in DIR/bin (build-kubernetes.sh), images in DIR/images/*.tar; DIR/ready appears when it answers.
set -eu
dir=$1
run=$dir/run
rm -rf "$run" "$dir/ready"
mkdir -p "$run/log" "$run/cni"
netns=volt-fleet-$$
pids=
kubelet=
cleanup() {
  trap - EXIT TERM INT
  # The kubelet first, so that nothing is started again; then what containers are left.
  for pid in $pids; do
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    if [ "$pid" = "$kubelet" ]; then
      for task in $(ctr -a "$run/containerd.sock" -n k8s.io tasks ls -q 2>/dev/null); do
        ctr -a "$run/containerd.sock" -n k8s.io tasks kill -s KILL "$task" 2>/dev/null || true
      done
      sleep 2
    fi
  done
  for mount in $(grep -o " $run/[^ ]*" /proc/mounts | sort -r); do umount -l "$mount" 2>/dev/null || true; done
  ip netns del "$netns" 2>/dev/null || true
}
trap cleanup EXIT
trap 'exit 0' TERM INT

ip netns add "$netns"
in_ns() { nsenter --net="/run/netns/$netns" "$@"; }
in_ns ip link set lo up
in_ns ip link add up0 type veth peer name up1
in_ns ip addr add 10.99.0.1/24 dev up0
in_ns ip link set up0 up
in_ns ip link set up1 up
in_ns ip route add default via 10.99.0.2
in_ns sysctl -qw net.ipv4.ip_forward=1

cat > "$run/cni/10-ptp.conflist" <<END
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "ptp", "ipam": {"type": "host-local", "dataDir": "$run/ipam", "ranges": [[{"subnet": "10.98.0.0/24"}]],
   "routes": [{"dst": "0.0.0.0/0"}]}}]}
END
cat > "$run/containerd.toml" <<END
version = 2
root = "$run/containerd"
state = "$run/containerd-state"
[grpc]
  address = "$run/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/library/pause:1"
  restrict_oom_score_adj = true
  device_ownership_from_security_context = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$run/cni"
END
echo "secret,admin,admin,system:masters" > "$run/tokens.csv"
openssl genrsa -out "$run/accounts.key" 2048 2>/dev/null
cat > "$run/kubeconfig" <<END
apiVersion: v1
kind: Config
current-context: fleet
clusters: [{name: fleet, cluster: {server: "https://127.0.0.1:6443", insecure-skip-tls-verify: true}}]
users: [{name: admin, user: {token: secret}}]
contexts: [{name: fleet, context: {cluster: fleet, user: admin}}]
END
cat > "$run/kubelet.yaml" <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: cgroupfs
failSwapOn: false
enforceNodeAllocatable: []
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
containerRuntimeEndpoint: unix://$run/containerd.sock
evictionHard: {memory.available: 50Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
imageGCHighThresholdPercent: 100
serializeImagePulls: false
registerWithTaints: []
END

start() {
  name=$1
  shift
  nsenter --net="/run/netns/$netns" "$@" > "$run/log/$name" 2>&1 &
  last=$!
  pids="$last $pids"
}
bin=$dir/bin
start containerd containerd --config "$run/containerd.toml"
start etcd "$bin/etcd" --data-dir "$run/etcd" --unsafe-no-fsync --log-level warn
start apiserver "$bin/kube-apiserver" --etcd-servers http://127.0.0.1:2379 --cert-dir "$run/certs" --bind-address 127.0.0.1 \
  --service-cluster-ip-range 10.96.0.0/16 --authorization-mode AlwaysAllow --token-auth-file "$run/tokens.csv" \
  --service-account-key-file "$run/accounts.key" --service-account-signing-key-file "$run/accounts.key" \
  --service-account-issuer https://127.0.0.1:6443 --kubelet-preferred-address-types InternalIP
kubectl() { in_ns "$bin/kubectl" --kubeconfig "$run/kubeconfig" "$@"; }
until kubectl get --raw /readyz > /dev/null 2>&1; do sleep 1; done
start controllers "$bin/kube-controller-manager" --kubeconfig "$run/kubeconfig" --leader-elect=false \
  --service-account-private-key-file "$run/accounts.key" --node-monitor-grace-period 5m
start scheduler "$bin/kube-scheduler" --kubeconfig "$run/kubeconfig" --leader-elect=false
for image in "$dir"/images/*.tar; do
  until ctr -a "$run/containerd.sock" -n k8s.io images import --snapshotter native "$image" > "$run/log/import" 2>&1; do sleep 2; done
done
start kubelet "$bin/kubelet" --config "$run/kubelet.yaml" --kubeconfig "$run/kubeconfig" --root-dir "$run/kubelet" \
  --hostname-override node1 --node-ip 10.99.0.1
kubelet=$last
until kubectl wait --for condition=Ready node/node1 --timeout 5s > /dev/null 2>&1; do sleep 1; done
printf '#!/bin/sh\nexec nsenter --net=/run/netns/%s %s/kubectl --kubeconfig %s/kubeconfig "$@"\n' "$netns" "$bin" "$run" > "$run/kubectl"
chmod +x "$run/kubectl"
touch "$dir/ready"
while :; do sleep 1; done
