package main

import (
	"context"
	"crypto/rsa"
	"flag"
	"fmt"
	"os"

	"github.com/go-logr/logr"
	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v6/apis/volumesnapshot/v1"
	ocpconfigv1 "github.com/openshift/api/config/v1"
	imagev1 "github.com/openshift/api/image/v1"
	routev1 "github.com/openshift/api/route/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	extv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	crlog "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/manager/signals"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	crcontroller "sigs.k8s.io/controller-runtime/pkg/controller"

	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	forklift "kubevirt.io/containerized-data-importer-api/pkg/apis/forklift/v1beta1"
	cdiclient "kubevirt.io/containerized-data-importer/pkg/client/clientset/versioned"
	"kubevirt.io/containerized-data-importer/pkg/common"
	"kubevirt.io/containerized-data-importer/pkg/controller"
	"kubevirt.io/containerized-data-importer/pkg/controller/datavolume"
	"kubevirt.io/containerized-data-importer/pkg/controller/populators"
	"kubevirt.io/containerized-data-importer/pkg/controller/transfer"
	metrics "kubevirt.io/containerized-data-importer/pkg/monitoring/metrics/cdi-controller"
	"kubevirt.io/containerized-data-importer/pkg/util/cert"
	"kubevirt.io/containerized-data-importer/pkg/util/cert/fetcher"
	"kubevirt.io/containerized-data-importer/pkg/util/cert/generator"
	cryptowatch "kubevirt.io/containerized-data-importer/pkg/util/tls-crypto-watch"
)

const (
	// No worker pod is ever really started, so one name serves as every image.
	workerImage = "devcluster.invalid/cdi-worker:v1.65.0"
	pullPolicy  = string(corev1.PullIfNotPresent)
	verbosity   = "1"

	queriesPerSecond = 200
)

func newManager(kubeconfig string) (manager.Manager, kubernetes.Interface, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, nil, err
	}
	config.QPS, config.Burst = queriesPerSecond, 2*queriesPerSecond
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, cdiv1.AddToScheme, extv1.AddToScheme, snapshotv1.AddToScheme, forklift.AddToScheme,
		imagev1.Install, ocpconfigv1.Install, routev1.Install,
	} {
		if err := add(scheme); err != nil {
			return nil, nil, err
		}
	}
	own := cache.ByObject{Namespaces: map[string]cache.Config{namespace: {}}} // it may read these in its own namespace only
	mgr, err := manager.New(config, manager.Options{
		Scheme:  scheme,
		Metrics: server.Options{BindAddress: "0"},
		Cache: cache.Options{ByObject: map[client.Object]cache.ByObject{
			&networkingv1.Ingress{}: own, &batchv1.CronJob{}: own, &batchv1.Job{}: own, &corev1.ConfigMap{}: own, &corev1.Secret{}: own,
		}},
	})
	if err != nil {
		return nil, nil, err
	}
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, nil, err
	}
	tlsProfile := cryptowatch.NewManagedTLSWatcher(cdiclient.NewForConfigOrDie(config))
	tlsProfile.SetCache(mgr.GetCache())
	return mgr, kube, mgr.Add(tlsProfile)
}

func readKey(file string) (*rsa.PrivateKey, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	parsed, err := cert.ParsePrivateKeyPEM(content)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s: not an RSA key", file)
	}
	return key, nil
}

// addControllers registers everything that upstream's controller runs. Indexes come before the controllers that use them.
func addControllers(ctx context.Context, mgr manager.Manager, kube kubernetes.Interface, log logr.Logger, signer fetcher.CertFetcher, key *rsa.PrivateKey) error {
	labels := map[string]string{}
	public := &key.PublicKey
	certificates := &generator.FetchCertGenerator{Fetcher: signer}
	bundle := func(configMap string) fetcher.CertBundleFetcher {
		return &fetcher.ConfigMapCertBundleFetcher{Name: configMap, Client: kube.CoreV1().ConfigMaps(namespace)}
	}
	named := func(_ crcontroller.Controller, err error) error { return err }
	steps := []func() error{
		func() error {
			return named(controller.NewConfigController(mgr, log, "cdi-uploadproxy", common.ConfigName, labels))
		},
		func() error { return named(controller.NewStorageProfileController(mgr, log, labels)) },
		func() error { return datavolume.CreateCommonIndexes(mgr) },
		func() error { return named(datavolume.NewImportController(ctx, mgr, log, labels)) },
		func() error { return named(datavolume.NewUploadController(ctx, mgr, log, labels)) },
		func() error {
			return named(datavolume.NewPvcCloneController(ctx, mgr, log, workerImage, workerImage, pullPolicy, public, key, labels))
		},
		func() error {
			return named(datavolume.NewSnapshotCloneController(ctx, mgr, log, workerImage, workerImage, pullPolicy, public, key, labels))
		},
		func() error { return named(datavolume.NewPopulatorController(ctx, mgr, log, labels)) },
		func() error {
			return named(controller.NewImportController(mgr, log, workerImage, pullPolicy, verbosity, labels))
		},
		func() error {
			return named(controller.NewCloneController(mgr, log, workerImage, pullPolicy, verbosity, certificates,
				bundle("cdi-uploadserver-signer-bundle"), public, labels))
		},
		func() error {
			return named(controller.NewUploadController(mgr, log, workerImage, pullPolicy, verbosity, certificates,
				bundle("cdi-uploadserver-client-signer-bundle"), labels))
		},
		func() error { return named(transfer.NewObjectTransferController(mgr, log, labels)) },
		func() error {
			return named(controller.NewDataImportCronController(mgr, log, workerImage, pullPolicy, labels))
		},
		func() error { return named(controller.NewDataSourceController(mgr, log, labels)) },
		func() error { return populators.CreateCommonPopulatorIndexes(mgr) },
		func() error { return named(populators.NewImportPopulator(ctx, mgr, log, labels)) },
		func() error { return named(populators.NewUploadPopulator(ctx, mgr, log, labels)) },
		func() error {
			return named(populators.NewClonePopulator(ctx, mgr, log, workerImage, pullPolicy, labels, public))
		},
		func() error {
			return named(populators.NewForkliftPopulator(ctx, mgr, log, workerImage, workerImage, labels))
		},
	}
	for number, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("step %d: %w", number, err)
		}
	}
	return nil
}

func control(args []string) error {
	flags := flag.NewFlagSet("controller", flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "credentials of the service account cdi-sa")
	signerCert := flags.String("signer-cert", "", "RSA authority that signs upload certificates")
	signerKey := flags.String("signer-key", "", "its key")
	tokenKey := flags.String("token-key", "", "RSA key that signs clone tokens, the one in Secret cdi-api-signing-key")
	klog.InitFlags(flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx := signals.SetupSignalHandler()
	log := klog.Background().WithName("controller")
	crlog.SetLogger(log)

	if err := metrics.SetupMetrics(); err != nil {
		return err
	}
	key, err := readKey(*tokenKey)
	if err != nil {
		return err
	}
	mgr, kube, err := newManager(*kubeconfig)
	if err != nil {
		return err
	}
	signer := &fetcher.FileCertFetcher{CertFileName: *signerCert, KeyFileName: *signerKey}
	if err := addControllers(ctx, mgr, kube, log, signer, key); err != nil {
		return err
	}
	return mgr.Start(ctx)
}
