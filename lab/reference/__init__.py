"""The reference driver: NVMe from the first register to the last log page, to be read with the specification beside it.

It is written to be understood and compared with, on any transport (`transport`): it runs on the programmable controller in
process, on QEMU's device over qtest, and on a real PCI function by VFIO. Standard library only, for it also runs in guests.

Read it in the order in which a driver is built:

=====================  ========================================================================================
1 detect               `pci`, `registers`, `controller.Controller.detect`
2 admin queue          `ring`, `queue_pair`, `controller.Controller.enable`, `request`
3 identify             `identification`, `data` (buffers and PRPs), `execution`
4 I/O queues           `controller.Controller.create_io_queues`
5 read, 6 write        `namespace`
7 namespaces           `identification.Identification.active`, `controller.Controller.scan`
8 errors, reset        `execution` (retries, time-outs), `recovery`, `events`, `controller.Controller.shutdown`
9 multiqueue           `controller.Controller.create_io_queues`, `execution.Execution.run`, `load`, `shadow`
10 features            `features`, `health`, `namespace.Namespace.trim`
=====================  ========================================================================================

`service` answers the lab's actions (docs/drivers.md), `nvmectl` is the same for people. What it leaves out: SGLs, metadata and
protection information, fused commands, weighted arbitration, controller and host memory buffers, zoned and key value command
sets, namespace management, several hosts, power management, and queues that are not contiguous (PC=0).
"""
