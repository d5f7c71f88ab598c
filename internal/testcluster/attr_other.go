//go:build !linux

package testcluster

import "syscall"

// childAttributes cannot tie the child's life to ours here: after a SIGKILL of
// the parent its servers stay.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
