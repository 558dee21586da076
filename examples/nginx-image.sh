#!/usr/bin/env bash
# Makes an OCI archive of a real nginx from Debian's packages, for machines that reach no image registry.
#   examples/nginx-image.sh OUTPUT.tar [NAME]
set -euo pipefail
out=$(realpath -m "${1:?usage: nginx-image.sh OUTPUT.tar [NAME]}")
name=${2:-docker.io/library/nginx:1.22}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$work/debs" "$root" "$(dirname "$out")"

# nginx-light and everything it needs, unpacked without being installed.
cd "$work/debs"
[ -n "$(apt-cache policy nginx-light 2>/dev/null | grep Candidate)" ] || apt-get update -qq
packages=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances nginx-light |
  grep -E '^[a-z0-9]' | grep -vE '^(debconf|cdebconf|perl|dpkg|debianutils|init-system-helpers|iproute2|lsb-base|sysvinit-utils|tar|install-info|passwd|login|adduser)' | sort -u)
apt-get download -qq $packages busybox-static >/dev/null 2>&1
for deb in *.deb; do dpkg-deb -x "$deb" "$root"; done

cd "$root"
rm -rf usr/share/doc usr/share/man usr/share/locale usr/share/lintian usr/share/perl usr/lib/*/gconv var/cache
mkdir -p etc tmp var/log/nginx var/lib/nginx run bin usr/share/nginx/html
chmod 1777 tmp
for tool in sh cat ls wget sleep nslookup ps id hostname env echo true; do [ -e "bin/$tool" ] || ln -s busybox "bin/$tool"; done
printf 'root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/sh\n' > etc/passwd
printf 'root:x:0:\nwww-data:x:33:\n' > etc/group
cat > etc/nginx/nginx.conf <<'CONF'
user www-data;
worker_processes 1;
error_log /dev/stderr warn;
pid /run/nginx.pid;
events { worker_connections 256; }
http {
  include /etc/nginx/mime.types;
  default_type application/octet-stream;
  access_log /dev/stdout;
  server {
    listen 80;
    root /usr/share/nginx/html;
  }
}
CONF

layout=$work/oci
mkdir -p "$layout/blobs/sha256"
blob() { # file media-type: moves it into the layout, prints its descriptor
  local digest size
  digest=$(sha256sum "$1" | cut -d' ' -f1)
  size=$(stat -c %s "$1")
  mv "$1" "$layout/blobs/sha256/$digest"
  printf '{"mediaType":"%s","digest":"sha256:%s","size":%s}' "$2" "$digest" "$size"
}
tar -C "$root" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$work/layer.tar" .
diff_id=$(sha256sum "$work/layer.tar" | cut -d' ' -f1)
gzip -1 -n "$work/layer.tar"
layer=$(blob "$work/layer.tar.gz" application/vnd.oci.image.layer.v1.tar+gzip)
cat > "$work/config.json" <<JSON
{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],"Cmd":["/usr/sbin/nginx","-g","daemon off;"],"ExposedPorts":{"80/tcp":{}},"StopSignal":"SIGQUIT"},"rootfs":{"type":"layers","diff_ids":["sha256:$diff_id"]},"history":[{"created_by":"Debian nginx-light"}]}
JSON
config=$(blob "$work/config.json" application/vnd.oci.image.config.v1+json)
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":%s,"layers":[%s]}' "$config" "$layer" > "$work/manifest.json"
manifest=$(blob "$work/manifest.json" application/vnd.oci.image.manifest.v1+json)
printf '{"schemaVersion":2,"manifests":[%s]}' "${manifest%\}},\"annotations\":{\"io.containerd.image.name\":\"$name\",\"org.opencontainers.image.ref.name\":\"${name##*:}\"}}" > "$layout/index.json"
printf '{"imageLayoutVersion":"1.0.0"}' > "$layout/oci-layout"
tar -C "$layout" -cf "$out" .
echo "$out: $name"
