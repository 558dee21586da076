// A registry on loopback that serves the images of upstream's validation suite, made here: of busybox, of the
// suite's web server, and of users and groups as upstream's images have them.
//
// It prints its port, and the digest of test-image-digest, and serves until its standard input ends.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

const (
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	indexType    = "application/vnd.oci.image.index.v1+json"
)

type registry struct {
	// Bytes and their type, by digest.
	blobs map[string][]byte
	types map[string]string
	// Digests, by repository:tag.
	tags map[string]string
}

func (r *registry) descriptor(data []byte, kind string) map[string]any {
	digest := digestOf(data)
	r.blobs[digest], r.types[digest] = data, kind
	return map[string]any{"mediaType": kind, "digest": digest, "size": len(data)}
}

func (r *registry) ServeHTTP(answer http.ResponseWriter, asked *http.Request) {
	path := strings.TrimPrefix(asked.URL.Path, "/v2/")
	if path == "" {
		return
	}
	digest := path[strings.LastIndex(path, "/")+1:]
	if repository, tag, found := strings.Cut(path, "/manifests/"); found && !strings.HasPrefix(tag, "sha256:") {
		digest = r.tags[repository+":"+tag]
	}
	data, found := r.blobs[digest]
	if !found {
		answer.WriteHeader(http.StatusNotFound)
		fmt.Fprintln(answer, `{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "no such manifest or blob"}]}`)
		return
	}
	answer.Header().Set("Content-Type", r.types[digest])
	answer.Header().Set("Docker-Content-Digest", digest)
	http.ServeContent(answer, asked, "", time.Time{}, bytes.NewReader(data))
}

// fill makes every image that the suite names. It gives the digest of the one that is asked for by digest.
func (r *registry) fill(busybox, webserver string) (string, error) {
	tools, err := os.ReadFile(busybox)
	if err != nil {
		return "", err
	}
	server, err := os.ReadFile(webserver)
	if err != nil {
		return "", err
	}
	shell, err := base(busybox, tools, server)
	if err != nil {
		return "", err
	}
	with := func(settings config, files []file, names ...string) (digest string) {
		layers := []layer{shell}
		if err == nil && len(files) > 0 {
			var own layer
			own, err = pack(files)
			layers = append(layers, own)
		}
		if err == nil {
			digest, err = r.add(settings, layers, names...)
		}
		return digest
	}
	path := "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	sh := func(user string) config {
		return config{"Cmd": []string{"sh"}, "Env": []string{path}, "User": user}
	}
	serves := func(name, port string) (config, []file) {
		settings := config{"Entrypoint": []string{"/usr/bin/" + name}, "Env": []string{path, "PORT=" + port}}
		return settings, []file{{path: "usr/bin/" + name, mode: 0o755, data: server}}
	}
	const e2e, staging = "e2e-test-images/", "k8s-staging-cri-tools/"
	with(sh(""), nil, e2e+"busybox:1.29-2")
	with(config{"Entrypoint": []string{"/bin/sleep"}, "Cmd": []string{"inf"}}, nil, "pause:3.9")
	settings, files := serves("nginx", "80")
	with(settings, files, e2e+"nginx:1.14-2")
	settings, files = serves("nginx", "12003")
	for _, architecture := range []string{"amd64", "arm64"} {
		with(settings, files, staging+"hostnet-nginx-"+architecture+":latest")
	}
	settings, files = serves("httpd", "80")
	with(settings, files, e2e+"httpd:2.4.39-4")
	settings, files = serves("nonewprivs", "")
	files[0].mode = 0o4755
	with(settings, files, e2e+"nonewprivs:1.3")
	for name, user := range map[string]string{
		"uid": "1002", "username": "www-data", "uid-group": "1003:1004", "username-group": "www-data:1004",
	} {
		with(sh(user), nil, staging+"test-image-user-"+name+":latest")
	}
	with(sh("1000"), []file{
		{path: "etc/passwd", mode: 0o644, data: []byte(predefinedPasswd)},
		{path: "etc/group", mode: 0o644, data: []byte(predefinedGroups)},
		{path: "home/default-user/", mode: 0o755},
	}, staging+"test-image-predefined-group:latest")
	marked := func(mark string, names ...string) string {
		return with(sh(""), []file{{path: mark, mode: 0o644}}, names...)
	}
	for _, name := range []string{"test-image-1", "test-image-2", "test-image-3", "test-image-latest"} {
		marked(name, staging+name+":latest")
	}
	marked("same-image", staging+"test-image-tags:1", staging+"test-image-tags:2", staging+"test-image-tags:3")
	marked("test", staging+"test-image-tag:test")
	marked("all", staging+"test-image-tag:all")
	digest := marked("test-image-digest", staging+"test-image-digest:latest")
	return digest, err
}

func run() error {
	busybox := flag.String("busybox", "/bin/busybox", "a static busybox")
	webserver := flag.String("webserver", "", "the suite's web server")
	flag.Parse()
	r := &registry{blobs: map[string][]byte{}, types: map[string]string{}, tags: map[string]string{}}
	digest, err := r.fill(*busybox, *webserver)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port, digest)
	go http.Serve(listener, r)
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
