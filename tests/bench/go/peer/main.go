// peer does the same job as vdcos with the same verbs, written the usual way with controller-runtime: per VirtualMachine
// server-side apply of a KubeVirt VM, create of a DataVolume per disk, and the status once.
//
// It decides nothing: what it writes are templates that the benchmark took from what vdcos wrote, with names and uids
// filled in. And it remembers what it has written, so a cache that lags behind never makes it write twice.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"hash/fnv"
	"os"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

var (
	own    = schema.GroupVersionKind{Group: "vdcos.dev", Version: "v1alpha1", Kind: "VirtualMachine"}
	child  = schema.GroupVersionKind{Group: "kubevirt.io", Version: "v1", Kind: "VirtualMachine"}
	volume = schema.GroupVersionKind{Group: "cdi.kubevirt.io", Version: "v1beta1", Kind: "DataVolume"}
)

// template is what vdcos wrote for one VirtualMachine, with marks for what differs from one to the next.
type template struct {
	Child  json.RawMessage `json:"child"`
	Volume json.RawMessage `json:"volume"`
	Status json.RawMessage `json:"status"`
}

type reconciler struct {
	client.Client
	template template
	done     sync.Map // uid -> generation for which everything was written
}

func (r *reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	cr := object(own)
	if err := r.Get(ctx, request.NamespacedName, cr); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if generation, known := r.done.Load(cr.GetUID()); known && generation == cr.GetGeneration() {
		return ctrl.Result{}, nil
	}
	disks, _, err := unstructured.NestedSlice(cr.Object, "spec", "disks")
	if err != nil {
		return ctrl.Result{}, err
	}
	diskName := ""
	for _, each := range disks {
		disk, _ := each.(map[string]any)["name"].(string)
		diskName = joined(cr.GetName(), disk)
		if err := r.ensureVolume(ctx, cr, diskName); err != nil {
			return ctrl.Result{}, err
		}
	}
	if err := r.ensureChild(ctx, cr, diskName); err != nil {
		return ctrl.Result{}, err
	}
	if seen, _, _ := unstructured.NestedInt64(cr.Object, "status", "observedGeneration"); seen != cr.GetGeneration() {
		status, err := r.fill(r.template.Status, cr, diskName)
		if err != nil {
			return ctrl.Result{}, err
		}
		before := cr.DeepCopy()
		cr.Object["status"] = status
		if err := r.Status().Patch(ctx, cr, client.MergeFrom(before)); err != nil {
			return ctrl.Result{}, err
		}
	}
	r.done.Store(cr.GetUID(), cr.GetGeneration())
	return ctrl.Result{}, nil
}

func (r *reconciler) ensureVolume(ctx context.Context, cr *unstructured.Unstructured, name string) error {
	held := object(volume)
	err := r.Get(ctx, types.NamespacedName{Namespace: cr.GetNamespace(), Name: name}, held)
	if !apierrors.IsNotFound(err) {
		return err
	}
	content, err := r.fill(r.template.Volume, cr, name)
	if err != nil {
		return err
	}
	err = r.Create(ctx, &unstructured.Unstructured{Object: content}, client.FieldOwner("peer"))
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func (r *reconciler) ensureChild(ctx context.Context, cr *unstructured.Unstructured, disk string) error {
	held := object(child)
	err := r.Get(ctx, types.NamespacedName{Namespace: cr.GetNamespace(), Name: cr.GetName()}, held)
	if !apierrors.IsNotFound(err) {
		return err
	}
	content, err := r.fill(r.template.Child, cr, disk)
	if err != nil {
		return err
	}
	wanted := client.ApplyConfigurationFromUnstructured(&unstructured.Unstructured{Object: content})
	return r.Apply(ctx, wanted, client.FieldOwner("peer"))
}

func (r *reconciler) fill(text json.RawMessage, cr *unstructured.Unstructured, disk string) (map[string]any, error) {
	filled := strings.NewReplacer(
		"@NAME@", cr.GetName(), "@NAMESPACE@", cr.GetNamespace(), "@UID@", string(cr.GetUID()), "@DISK@", disk,
	).Replace(string(text))
	content := map[string]any{}
	holder := &unstructured.Unstructured{}
	if err := json.Unmarshal([]byte(filled), &content); err != nil {
		return nil, err
	}
	// Whole numbers as integers, as the unstructured types want them.
	holder.Object = content
	return integers(holder.Object).(map[string]any), nil
}

func integers(value any) any {
	switch typed := value.(type) {
	case map[string]any:
		for key, inner := range typed {
			typed[key] = integers(inner)
		}
	case []any:
		for index, inner := range typed {
			typed[index] = integers(inner)
		}
	case float64:
		return int64(typed)
	}
	return value
}

func joined(vm, disk string) string {
	digest := fnv.New32a()
	fmt.Fprintf(digest, "%s/%s", vm, disk)
	return fmt.Sprintf("%s-%s-%08x", vm, disk, digest.Sum32())
}

func object(kind schema.GroupVersionKind) *unstructured.Unstructured {
	made := &unstructured.Unstructured{}
	made.SetGroupVersionKind(kind)
	return made
}

func main() {
	kubeconfig := flag.String("config", "", "kubeconfig")
	templates := flag.String("template", "", "file with the bodies")
	workers := flag.Int("workers", 1, "MaxConcurrentReconciles")
	flag.Parse()
	ctrl.SetLogger(klog.Background())

	made := &reconciler{}
	text, err := os.ReadFile(*templates)
	check(err)
	check(json.Unmarshal(text, &made.template))
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	check(err)
	config.QPS = -1
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Metrics: server.Options{BindAddress: "0"},
		Client:  client.Options{Cache: &client.CacheOptions{Unstructured: true}},
	})
	check(err)
	made.Client = manager.GetClient()
	check(ctrl.NewControllerManagedBy(manager).
		For(object(own)).
		Owns(object(child)).
		Owns(object(volume)).
		WithOptions(controller.Options{MaxConcurrentReconciles: *workers}).
		Complete(made))
	check(manager.Start(ctrl.SetupSignalHandler()))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
