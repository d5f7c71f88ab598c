package v1alpha1

import (
	"fmt"
	"path"
	"regexp"
)

// NodesConfig is what the plugin zookeeper-to-zookeeper-nodes has in its config
// besides what all plugins have.
//
// +kubebuilder:validation:XValidation:rule="!has(self.createRootPath) || !has(self.createRoutePath) || self.createRootPath == self.createRoutePath",fieldPath=".createRoutePath",message="createRoutePath is an alias of createRootPath, and the two differ: set one of them"
type NodesConfig struct {
	// RootPath is the absolute path of the tree that is synchronized, such as
	// /app/config, in both databases. Nothing outside of it is touched.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:Pattern=`^(/|(/([^/.\x00-\x1f\x7f][^/\x00-\x1f\x7f]*|\.[^/.\x00-\x1f\x7f][^/\x00-\x1f\x7f]*|\.\.[^/\x00-\x1f\x7f]+))+)$`
	RootPath string `json:"rootPath,omitempty"`
	// CreateRootPath makes rootPath, and what is above it, in the destination where
	// it is missing. Default false: that is an error.
	// +optional
	CreateRootPath *bool `json:"createRootPath,omitempty"`
	// CreateRoutePath is an alias of createRootPath.
	// +optional
	CreateRoutePath *bool `json:"createRoutePath,omitempty"`
	// IgnoreEphemeral leaves ephemeral nodes out. Default false: they are copied,
	// as persistent nodes, since their session is one of the source.
	// +optional
	IgnoreEphemeral bool `json:"ignoreEphemeral,omitempty"`
	// ExcludePathRegexp is an RE2 expression that is searched for in the absolute
	// path of every node, anywhere unless it has ^ and $: where it matches, that
	// node and all below it are neither copied nor deleted. Default: none.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	ExcludePathRegexp string `json:"excludePathRegexp,omitempty"`
	// CopyACL also copies the access control lists. Default false: nodes that are
	// made are open to everybody, and those of nodes that exist stay.
	// +optional
	CopyACL bool `json:"copyACL,omitempty"`
}

// Root is rootPath, cleaned.
func (c *NodesConfig) Root() string { return path.Clean("/" + c.RootPath) }

// CreatesRoot tells whether a missing root is made in the destination, by either
// name of the field.
func (c *NodesConfig) CreatesRoot() bool {
	return c.CreateRootPath != nil && *c.CreateRootPath || c.CreateRoutePath != nil && *c.CreateRoutePath
}

// Exclusion returns what tells whether a node, by its absolute path, is excluded
// with all that is below it.
func (c *NodesConfig) Exclusion() (func(path string) bool, error) {
	if c.ExcludePathRegexp == "" {
		return func(string) bool { return false }, nil
	}
	expression, err := regexp.Compile(c.ExcludePathRegexp)
	if err != nil {
		return nil, fmt.Errorf("expected an RE2 regular expression such as ^/app/locks$: %w", err)
	}
	return expression.MatchString, nil
}
