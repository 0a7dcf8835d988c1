// Definitions that are files of a module, not code: nothing is compiled here.
module vdcos.dev/devcluster/crds

go 1.24.0

require (
	github.com/k8snetworkplumbingwg/network-attachment-definition-client v1.7.7
	github.com/kubernetes-csi/external-snapshotter/client/v8 v8.7.0
)
