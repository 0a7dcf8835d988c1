package main

import (
	"context"
	"flag"
	"fmt"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v6/apis/volumesnapshot/v1"
	snapclient "github.com/kubernetes-csi/external-snapshotter/client/v6/clientset/versioned"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	aggregatorclient "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager/signals"

	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"kubevirt.io/containerized-data-importer/pkg/apiserver"
	cdiclient "kubevirt.io/containerized-data-importer/pkg/client/clientset/versioned"
	"kubevirt.io/containerized-data-importer/pkg/controller/datavolume"
	certwatcher "kubevirt.io/containerized-data-importer/pkg/util/cert/watcher"
	cryptowatch "kubevirt.io/containerized-data-importer/pkg/util/tls-crypto-watch"
)

// storageReader answers for volumes, classes and profiles from a cache (their field index exists only there) and for anything
// else from the API server, because the identity of this server may not watch it.
type storageReader struct {
	client.Client
	cache cache.Cache
}

func (r *storageReader) Get(ctx context.Context, key client.ObjectKey, into client.Object, opts ...client.GetOption) error {
	switch into.(type) {
	case *corev1.PersistentVolume, *storagev1.StorageClass, *cdiv1.StorageProfile:
		return r.cache.Get(ctx, key, into, opts...)
	default:
		return r.Client.Get(ctx, key, into, opts...)
	}
}

func (r *storageReader) List(ctx context.Context, into client.ObjectList, opts ...client.ListOption) error {
	switch into.(type) {
	case *corev1.PersistentVolumeList, *storagev1.StorageClassList, *cdiv1.StorageProfileList:
		return r.cache.List(ctx, into, opts...)
	default:
		return r.Client.List(ctx, into, opts...)
	}
}

func newStorageReader(ctx context.Context, config *rest.Config) (*storageReader, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, cdiv1.AddToScheme, snapshotv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	direct, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, err
	}
	cached, err := cache.New(config, cache.Options{Scheme: scheme})
	if err != nil {
		return nil, err
	}
	if err := datavolume.CreateAvailablePersistentVolumeIndex(cached); err != nil {
		return nil, err
	}
	for _, kind := range []client.Object{&storagev1.StorageClass{}, &cdiv1.StorageProfile{}} {
		if _, err := cached.GetInformer(ctx, kind); err != nil {
			return nil, err
		}
	}
	return &storageReader{Client: direct, cache: cached}, nil
}

func serve(args []string) error {
	flags := flag.NewFlagSet("apiserver", flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "credentials of the service account cdi-apiserver")
	address := flags.String("listen", "127.0.0.1", "address to serve on")
	port := flags.Uint("port", 8443, "port to serve on")
	certFile := flags.String("tls-cert", "", "serving certificate, for cdi-api.cdi.svc too")
	keyFile := flags.String("tls-key", "", "its key")
	klog.InitFlags(flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx := signals.SetupSignalHandler()

	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return err
	}
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	cdi, err := cdiclient.NewForConfig(config)
	if err != nil {
		return err
	}
	snapshots, err := snapclient.NewForConfig(config)
	if err != nil {
		return err
	}
	aggregator, err := aggregatorclient.NewForConfig(config)
	if err != nil {
		return err
	}
	reader, err := newStorageReader(ctx, config)
	if err != nil {
		return err
	}
	authConfig, err := apiserver.NewAuthConfigWatcher(ctx, kube)
	if err != nil {
		return fmt.Errorf("request header authentication: %w", err)
	}
	tlsConfig, err := cryptowatch.NewCdiConfigTLSWatcher(ctx, cdi)
	if err != nil {
		return fmt.Errorf("TLS profile: %w", err)
	}
	authorizer, err := apiserver.NewAuthorizorFromConfig(config, authConfig)
	if err != nil {
		return err
	}
	certificate, err := certwatcher.New(*certFile, *keyFile)
	if err != nil {
		return fmt.Errorf("serving certificate: %w", err)
	}
	server, err := apiserver.NewCdiAPIServer(*address, *port, kube, aggregator, cdi, snapshots, reader, authorizer, authConfig,
		tlsConfig, certificate, map[string]string{})
	if err != nil {
		return err
	}

	failed := make(chan error, 1)
	go func() { failed <- reader.cache.Start(ctx) }()
	if !reader.cache.WaitForCacheSync(ctx) {
		return fmt.Errorf("storage cache did not sync: %w", context.Cause(ctx))
	}
	go func() { failed <- server.Start(ctx.Done()) }()
	return <-failed
}
