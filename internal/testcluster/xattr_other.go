//go:build !linux

package testcluster

// hasExtendedAttributes: not tried here.
func hasExtendedAttributes(string) bool { return false }
