#!/usr/bin/env bash
# A two-node cluster on this machine with a real nginx on it. Called by ./x demo.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
say() { printf '\033[1m%s\033[0m\n' "$*"; }
knarr=$PWD/target/release/knarr
name=demo
kubeconfig=${KUBECONFIG:-$HOME/.kube/config}
image=.cache/nginx.tar

say "building the release binary"
./x build
mkdir -p .cache
if [ ! -f "$image" ]; then
  say "making an nginx image from Debian's packages"
  bash examples/nginx-image.sh "$image"
fi
kubectl() { command "$PWD/.cache/bin/kubectl" --kubeconfig "$kubeconfig" --context "$name" "$@"; }
[ -x .cache/bin/kubectl ] || ./x kubectl

started=$(date +%s.%N)
say "starting a cluster of two nodes"
"$knarr" up --name "$name" --port 0 --nodes 2 --kubeconfig "$kubeconfig"
"$knarr" image --name "$name" import "$image"
say "applying examples/nginx-deploy.yaml"
kubectl apply -f examples/nginx-deploy.yaml
kubectl --namespace hello rollout status deployment/nginx --timeout=60s

ip=$(kubectl --namespace hello get service nginx -o jsonpath='{.spec.clusterIP}')
node=$(kubectl get nodes -o jsonpath='{.items[0].status.addresses[?(@.type=="InternalIP")].address}')
pod=$(kubectl --namespace hello get pods -o jsonpath="{.items[?(@.spec.nodeName==\"$name-2\")].metadata.name}" | cut -d' ' -f1)
say "the page, through the cluster IP $ip"
curl --silent --show-error --max-time 5 --retry 5 --retry-all-errors --retry-delay 0 "http://$ip/" | tail -n 1
say "the page, by its DNS name from inside the pod $pod on node $name-2"
kubectl --namespace hello exec "$pod" -- wget -qO- http://nginx.hello.svc.cluster.local/ | tail -n 1
say "the page, through the node port"
curl --silent --show-error --max-time 5 "http://$node:30080/" | tail -n 1
printf 'all of it took %.1f s\n' "$(echo "$(date +%s.%N) - $started" | bc)"
cat <<MORE

Try next:
  kubectl --context $name get pods -A -o wide
  kubectl --context $name -n hello scale deployment/nginx --replicas=5
  kubectl --context $name -n hello exec -it deploy/nginx -- sh
  $knarr status --name $name
  $knarr down --name $name --purge
MORE
