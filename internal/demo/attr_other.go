//go:build !linux

package demo

import "syscall"

// childAttributes: a process group of its own, because an interrupt typed at the
// terminal is for us first.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
