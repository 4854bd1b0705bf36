#!/usr/bin/busybox sh
# First process of the guest: mounts, network, SSH server; then a shell on the console.
export PATH=/usr/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run

# Nothing that a driver says may be lost to the rate limit.
echo 0 > /proc/sys/kernel/printk_ratelimit
echo on > /proc/sys/kernel/printk_devkmsg

# A foreign kernel may have them built in: one that does not load is said, not fatal.
while read -r module; do
    insmod "$module" || echo "NVME-LAB cannot load $module"
done < /etc/nvme-lab/preload

hostname nvme-lab
ip link set lo up
ip addr add 10.0.2.15/24 dev eth0
ip link set eth0 up
ip route add default via 10.0.2.2

# dropbear listens before it goes into the background: when READY is printed a connection is accepted.
dropbear -s -p 22 -P /run/dropbear.pid -W 1048576 -K 0 -I 0 && echo "NVME-LAB READY"
exec setsid cttyhack sh
