// What the suite's images run. As nginx or httpd it serves a page, at the port that its image names; as nonewprivs
// it says who it is; as pgrep and ipcs it is what Debian's busybox lacks.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// ps prints the processes of a name, as pgrep does.
func ps(name string) error {
	comms, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return err
	}
	for _, path := range comms {
		comm, err := os.ReadFile(path)
		if err == nil && strings.TrimSpace(string(comm)) == name {
			fmt.Println(filepath.Base(filepath.Dir(path)))
		}
	}
	return nil
}

// segments prints the shared memory that can be seen from here.
func segments() error {
	file, err := os.Open("/proc/sysvipc/shm")
	if err != nil {
		return err
	}
	_, err = io.Copy(os.Stdout, file)
	return err
}

func serve(name string) error {
	port := os.Getenv("PORT")
	pid := []byte(strconv.Itoa(os.Getpid()) + "\n")
	if err := os.WriteFile("/var/run/"+name+".pid", pid, 0o644); err != nil {
		return err
	}
	fmt.Println(name, "serves at port", port)
	http.HandleFunc("/", func(answer http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(answer, "Welcome to", name)
	})
	return http.ListenAndServe(":"+port, nil)
}

func run() error {
	switch name := filepath.Base(os.Args[0]); name {
	case "nonewprivs":
		fmt.Printf("Effective uid: %d\n", os.Geteuid())
		return nil
	case "pgrep":
		return ps(os.Args[len(os.Args)-1])
	case "ipcs":
		return segments()
	case "nginx":
		// The suite knows the real one's first process by the title that it gives itself.
		return syscall.Exec("/usr/bin/nginx", []string{"nginx: master process nginx -g daemon off;"}, os.Environ())
	case "httpd":
		return serve(name)
	default:
		return serve("nginx")
	}
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
