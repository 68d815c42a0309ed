"""The compiler: loop IR, kernels, memory plan, schedule and C."""
