// Command kubevirt-manifests prints, as one JSON List, what virt-operator would install: custom resource definitions, RBAC,
// admission webhooks and APIServices. Webhooks and APIServices name the in-cluster Service; whoever applies them puts the
// address of virt-api and the CA bundle in its place.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	extv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"kubevirt.io/kubevirt/pkg/virt-operator/resource/generate/components"
	"kubevirt.io/kubevirt/pkg/virt-operator/resource/generate/rbac"
)

const namespace = "kubevirt"

var definitions = []func() (*extv1.CustomResourceDefinition, error){
	components.NewKubeVirtCrd,
	components.NewMigrationPolicyCrd,
	components.NewPresetCrd,
	components.NewReplicaSetCrd,
	components.NewVirtualMachineBackupCrd,
	components.NewVirtualMachineBackupTrackerCrd,
	components.NewVirtualMachineCloneCrd,
	components.NewVirtualMachineClusterInstancetypeCrd,
	components.NewVirtualMachineClusterPreferenceCrd,
	components.NewVirtualMachineCrd,
	components.NewVirtualMachineExportCrd,
	components.NewVirtualMachineInstanceCrd,
	components.NewVirtualMachineInstanceMigrationCrd,
	components.NewVirtualMachineInstancetypeCrd,
	components.NewVirtualMachinePoolCrd,
	components.NewVirtualMachinePreferenceCrd,
	components.NewVirtualMachineRestoreCrd,
	components.NewVirtualMachineSnapshotContentCrd,
	components.NewVirtualMachineSnapshotCrd,
}

func objects() ([]runtime.Object, error) {
	var all []runtime.Object
	for _, define := range definitions {
		crd, err := define()
		if err != nil {
			return nil, err
		}
		all = append(all, crd)
	}
	all = append(all, rbac.GetAllCluster()...)
	all = append(all, rbac.GetAllApiServer(namespace)...)
	all = append(all, rbac.GetAllController(namespace, true)...)
	all = append(all, rbac.GetAllHandler(namespace)...)
	for _, service := range components.NewVirtAPIAPIServices(namespace) {
		all = append(all, service)
	}
	return append(all,
		components.NewVirtAPIMutatingWebhookConfiguration(namespace),
		components.NewVirtLauncherPodMutatingWebhookConfiguration(namespace),
		components.NewVirtAPIValidatingWebhookConfiguration(namespace),
	), nil
}

func run() error {
	all, err := objects()
	if err != nil {
		return err
	}
	items := make([]map[string]any, 0, len(all))
	for _, object := range all {
		item, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
		if err != nil {
			return err
		}
		delete(item, "status") // a generated status is not valid input for a definition
		items = append(items, item)
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"apiVersion": "v1", "kind": "List", "items": items})
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "kubevirt-manifests:", err)
		os.Exit(1)
	}
}
