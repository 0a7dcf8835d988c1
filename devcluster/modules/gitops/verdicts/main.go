// Says what Flux and Helm 4 (kstatus) and Argo CD (a health script in Lua) make of objects.
//
//	verdicts ARGOCD-CM < objects
//
// Reads Kubernetes objects as JSON, one after the other, and prints a JSON object for each: the verdict of kstatus, and that
// of Argo CD with the health scripts of its ConfigMap in the file ARGOCD-CM.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

type verdict struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

type verdicts struct {
	Kstatus verdict `json:"kstatus"`
	Argocd  verdict `json:"argocd"`
}

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string, in io.Reader, out io.Writer) error {
	if len(arguments) != 1 {
		return errors.New("usage: verdicts ARGOCD-CM < objects")
	}
	scripts, err := readScripts(arguments[0])
	if err != nil {
		return err
	}
	objects, lines := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var raw json.RawMessage
		if err := objects.Decode(&raw); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		// Not by way of a map: kstatus takes a generation that is a float for a mistake.
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(raw); err != nil {
			return err
		}
		found, err := judge(object, scripts)
		if err != nil {
			return fmt.Errorf("%s %s: %w", object.GetKind(), object.GetName(), err)
		}
		if err := lines.Encode(found); err != nil {
			return err
		}
	}
}

func judge(object *unstructured.Unstructured, scripts scripts) (*verdicts, error) {
	computed, err := status.Compute(object)
	if err != nil {
		return nil, err
	}
	health, err := scripts.health(object)
	if err != nil {
		return nil, err
	}
	return &verdicts{verdict{string(computed.Status), computed.Message}, health}, nil
}
