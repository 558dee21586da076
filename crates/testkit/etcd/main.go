// Command etcd is the current etcd server, as its Go module publishes it: the peer of the store's tests.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
