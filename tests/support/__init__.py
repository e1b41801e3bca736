"""What the lanes share; it has no tests of its own.

In this process: `environment` (what a function finds around it), `invocations` (what Lambda passes
to it), `mappings` (which function reads which queue), `services` and `aws_lambda` (AWS in memory),
`failures` (how AWS and a process fail), `runs`, and `world`, the functions on moto. On the
emulator: `deploy`, `deployed`, `command`, `ledger`, `readme`, `aws_cli`, and `user_code`, which is
deployed with the project.
"""
