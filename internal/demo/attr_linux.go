package demo

import "syscall"

// childAttributes: a process group of its own, because an interrupt typed at the
// terminal is for us first; and the kernel ends the child when we are gone,
// however we went.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
