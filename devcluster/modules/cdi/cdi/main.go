// Command cdi runs the parts of the Containerized Data Importer that a devcluster needs, side by side with others on one machine:
//
//	cdi manifests                 prints what cdi-operator would install, as one JSON List
//	cdi apiserver  [flags]        admission webhooks and the upload token API
//	cdi controller [flags]        all controllers and populators
//
// The upstream programs bind 0.0.0.0:8443 and read keys below /var/run; here address, port and files are flags.
package main

import (
	"fmt"
	"os"

	"k8s.io/klog/v2"
)

const namespace = "cdi"

func main() {
	commands := map[string]func([]string) error{"manifests": manifests, "apiserver": serve, "controller": control}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: cdi manifests|apiserver|controller [flags]")
		os.Exit(2)
	}
	defer klog.Flush()
	if err := commands[os.Args[1]](os.Args[2:]); err != nil {
		klog.ErrorS(err, "cdi stopped", "command", os.Args[1])
		klog.FlushAndExit(klog.ExitFlushTimeout, 1)
	}
}
