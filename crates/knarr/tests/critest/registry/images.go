package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
)

// The users of the busybox image, and those of the image with a group of its own.
const (
	passwd = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/false\n" +
		"nobody:x:65534:65534:nobody:/home:/bin/false\n"
	groups = "root:x:0:\nwww-data:x:33:\nnobody:x:65534:\n"

	predefinedPasswd = passwd + "default-user:x:1000:1000:Linux User,,,:/home/default-user:/bin/sh\n"
	predefinedGroups = groups + "default-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\n"
)

type file struct {
	path string
	mode int64
	data []byte
	link string
}

type layer struct{ compressed, digest, diff string }

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// pack makes a layer; the same files give the same bytes.
func pack(files []file) (layer, error) {
	var plain, compressed bytes.Buffer
	archive := tar.NewWriter(&plain)
	for _, f := range files {
		header := &tar.Header{Name: f.path, Mode: f.mode, Size: int64(len(f.data)), Typeflag: tar.TypeReg}
		switch {
		case f.link != "":
			header.Typeflag, header.Linkname = tar.TypeLink, f.link
		case strings.HasSuffix(f.path, "/"):
			header.Typeflag = tar.TypeDir
		}
		if err := archive.WriteHeader(header); err != nil {
			return layer{}, err
		}
		if _, err := archive.Write(f.data); err != nil {
			return layer{}, err
		}
	}
	if err := archive.Close(); err != nil {
		return layer{}, err
	}
	squeeze := gzip.NewWriter(&compressed)
	if _, err := squeeze.Write(plain.Bytes()); err != nil {
		return layer{}, err
	}
	if err := squeeze.Close(); err != nil {
		return layer{}, err
	}
	return layer{compressed.String(), digestOf(compressed.Bytes()), digestOf(plain.Bytes())}, nil
}

// base has a shell and its tools, all of them the one program; what Debian's busybox lacks is in helper.
func base(busybox string, program, helper []byte) (layer, error) {
	listed, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return layer{}, fmt.Errorf("asking %s for its tools: %w", busybox, err)
	}
	files := []file{
		{path: "bin/", mode: 0o755}, {path: "etc/", mode: 0o755}, {path: "home/", mode: 0o755},
		{path: "root/", mode: 0o700}, {path: "tmp/", mode: 0o1777}, {path: "usr/bin/", mode: 0o755},
		{path: "var/run/", mode: 0o755}, {path: "var/www/", mode: 0o755},
		{path: "etc/passwd", mode: 0o644, data: []byte(passwd)}, {path: "etc/group", mode: 0o644, data: []byte(groups)},
		{path: "bin/busybox", mode: 0o755, data: program},
		{path: "usr/bin/pgrep", mode: 0o755, data: helper},
		{path: "usr/bin/ipcs", mode: 0o755, link: "usr/bin/pgrep"},
	}
	for tool := range strings.FieldsSeq(string(listed)) {
		if tool != "busybox" {
			files = append(files, file{path: "bin/" + tool, mode: 0o755, link: "bin/busybox"})
		}
	}
	return pack(files)
}

type config map[string]any

// add makes an image of layers and serves it by its names; it gives the digest by which all of them can be had.
func (r *registry) add(settings config, layers []layer, names ...string) (string, error) {
	var diffs []string
	var descriptors []any
	for _, l := range layers {
		diffs = append(diffs, l.diff)
		descriptors = append(descriptors, r.descriptor([]byte(l.compressed), "application/vnd.oci.image.layer.v1.tar+gzip"))
	}
	image, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": settings,
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffs},
	})
	if err != nil {
		return "", err
	}
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": manifestType, "layers": descriptors,
		"config": r.descriptor(image, "application/vnd.oci.image.config.v1+json"),
	})
	if err != nil {
		return "", err
	}
	here := r.descriptor(manifest, manifestType)
	here["platform"] = map[string]string{"architecture": runtime.GOARCH, "os": "linux"}
	elsewhere := map[string]any{
		"mediaType": manifestType, "size": 2, "digest": digestOf([]byte("{}")),
		"platform": map[string]string{"architecture": "s390x", "os": "linux"},
	}
	index, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": indexType, "manifests": []any{elsewhere, here},
	})
	if err != nil {
		return "", err
	}
	digest := r.descriptor(index, indexType)["digest"].(string)
	for _, name := range names {
		r.tags[name] = digest
	}
	return digest, nil
}
