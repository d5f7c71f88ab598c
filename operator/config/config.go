// Package config holds the manifests that Afterimage ships. The CRDs are those a
// cluster is given and those that standalone mode validates with: there is no
// second set.
package config

import "embed"

// CRDs holds crd/*.yaml, one CustomResourceDefinition a file, generated from
// operator/api/v1alpha1 by bench/tools/generate.sh.
//
//go:embed crd/*.yaml
var CRDs embed.FS

// Samples holds samples/*.yaml: manifests users have, which must load unchanged
// for ever.
//
//go:embed samples/*.yaml
var Samples embed.FS
