package testcluster

import "syscall"

// childAttributes has the kernel kill the child when its parent dies, however
// it dies. Children get a process group of their own, so that an interrupt typed
// at a terminal reaches them through us, in our order.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
