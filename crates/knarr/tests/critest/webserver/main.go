// What the suite's images run. As nginx or httpd it serves a page at the port that its first argument names;
// as nonewprivs it says who it is.
package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
)

func main() {
	name := filepath.Base(os.Args[0])
	if name == "nonewprivs" {
		fmt.Printf("Effective uid: %d\n", os.Geteuid())
		return
	}
	port := "80"
	if len(os.Args) > 1 {
		port = os.Args[1]
	}
	pid := []byte(strconv.Itoa(os.Getpid()) + "\n")
	if err := os.WriteFile("/var/run/"+name+".pid", pid, 0o644); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(name, "serves at port", port)
	http.HandleFunc("/", func(answer http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(answer, "Welcome to", name)
	})
	fmt.Fprintln(os.Stderr, http.ListenAndServe(":"+port, nil))
	os.Exit(1)
}
