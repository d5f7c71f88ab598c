package testenv_test

import "syscall"

// sigNone asks whether a process exists without touching it.
const sigNone = syscall.Signal(0)
