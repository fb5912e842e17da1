#!/bin/sh
# Builds Kubernetes, etcd and the device plugin from their sources into DIR/bin, a quarter of an hour on two cores:
# build-kubernetes.sh DIR [GENERIC-DEVICE-PLUGIN-SOURCE]. Needs Go 1.25 or later.
set -eu
dir=$1
mkdir -p "$dir/src" "$dir/bin"
cd "$dir/src"
kubernetes=v1.34.4
staging=v0.34.4
module=$(go mod download -json "k8s.io/kubernetes@$kubernetes" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')
{
  echo "module fleet"
  grep '^go ' "$module"
  echo "require (k8s.io/kubernetes $kubernetes"
  echo "go.etcd.io/etcd/server/v3 v3.6.5)"
  # Its staging modules are folders of its repository.
  grep -oE 'k8s.io/[a-z0-9-]+ => ./staging' "$module" | sed "s#\(.*\) => .*#replace \1 => \1 $staging#"
} | sed 's/^require (\(.*\)$/require (\n\1/; s/)$/\n)/' > go.mod
cat > tools.go <<'END'
//go:build tools

package tools

import (
	_ "go.etcd.io/etcd/server/v3"
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kube-controller-manager"
	_ "k8s.io/kubernetes/cmd/kube-scheduler"
	_ "k8s.io/kubernetes/cmd/kubectl"
	_ "k8s.io/kubernetes/cmd/kubelet"
)
END
export CGO_ENABLED=0 GOFLAGS=-mod=mod
go mod tidy -e
version="-X k8s.io/component-base/version.gitVersion=$kubernetes -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=34"
go build -ldflags '-s -w' -o ../bin/etcd go.etcd.io/etcd/server/v3
for name in kubelet kube-apiserver kube-controller-manager kube-scheduler kubectl; do
  go build -ldflags "-s -w $version" -o "../bin/$name" "k8s.io/kubernetes/cmd/$name"
done
cd "${2:?the source of github.com/squat/generic-device-plugin is missing}"
GOFLAGS=-buildvcs=false go build -o "$dir/bin/generic-device-plugin" .
