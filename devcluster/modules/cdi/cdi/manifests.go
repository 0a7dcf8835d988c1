package main

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"kubevirt.io/containerized-data-importer/pkg/operator/resources"
	"kubevirt.io/containerized-data-importer/pkg/operator/resources/cluster"
	"kubevirt.io/containerized-data-importer/pkg/operator/resources/namespaced"
)

// identityKinds are what the controllers need besides their programs; Deployments and Services are not used here.
var identityKinds = []string{"ServiceAccount", "Role", "RoleBinding"}

func manifests([]string) error {
	var items []map[string]any
	for _, name := range slices.Sorted(maps.Keys(resources.CDICRDs)) {
		var definition map[string]any
		if err := yaml.Unmarshal([]byte(resources.CDICRDs[name]), &definition); err != nil {
			return err
		}
		items = append(items, definition)
	}
	objects, err := installed()
	if err != nil {
		return err
	}
	for _, object := range objects {
		item, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
		if err != nil {
			return err
		}
		items = append(items, item)
	}
	for _, item := range items {
		delete(item, "status")
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"apiVersion": "v1", "kind": "List", "items": items})
}

// installed returns the cluster-wide objects other than definitions (those come complete from CDICRDs) and the identities.
func installed() ([]client.Object, error) {
	args := &cluster.FactoryArgs{Namespace: namespace}
	static, err := cluster.CreateAllStaticResources(args)
	if err != nil {
		return nil, err
	}
	dynamic, err := cluster.CreateAllDynamicResources(args)
	if err != nil {
		return nil, err
	}
	all := slices.DeleteFunc(slices.Concat(static, dynamic), func(object client.Object) bool {
		return object.GetObjectKind().GroupVersionKind().Kind == "CustomResourceDefinition"
	})
	for _, group := range []string{"apiserver", "controller", "cronjob"} {
		objects, err := namespaced.CreateResourceGroup(group, &namespaced.FactoryArgs{Namespace: namespace})
		if err != nil {
			return nil, err
		}
		for _, object := range objects {
			if slices.Contains(identityKinds, object.GetObjectKind().GroupVersionKind().Kind) {
				all = append(all, object)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b client.Object) int { // the factories walk maps: make the order stable
		return strings.Compare(describe(a), describe(b))
	})
	return all, nil
}

func describe(object client.Object) string {
	return object.GetObjectKind().GroupVersionKind().Kind + "/" + object.GetNamespace() + "/" + object.GetName()
}
