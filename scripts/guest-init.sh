#!/bin/sh
# Init of the guest that Volt's tests boot. Everything a test reads is on a line that starts with VOLT-GUEST.
# Counting uses shell built-ins only: on an emulated host each fork costs milliseconds.

export PATH=/bin
/bin/busybox mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null

count_siblings() { # "0-1,4" -> siblings=3
  siblings=0
  old_ifs=$IFS
  IFS=,
  for range in $1; do
    siblings=$((siblings + ${range#*-} - ${range%-*} + 1))
  done
  IFS=$old_ifs
}

print_topology() {
  cpus=0 sockets=0 cores=0 threads=0
  seen_packages=' ' seen_cores=' '
  for cpu in /sys/devices/system/cpu/cpu[0-9]*; do
    # An offline CPU has no topology folder.
    [ -r "$cpu/topology/core_id" ] || continue
    cpus=$((cpus + 1))
    read -r package <"$cpu/topology/physical_package_id"
    # Some CPUs number the cores of each die from 0.
    read -r die <"$cpu/topology/die_id"
    read -r core <"$cpu/topology/core_id"
    case "$seen_packages" in
      *" $package "*) ;;
      *) seen_packages="$seen_packages$package " sockets=$((sockets + 1)) ;;
    esac
    case "$seen_cores" in
      *" $package/$die/$core "*) ;;
      *) seen_cores="$seen_cores$package/$die/$core " cores=$((cores + 1)) ;;
    esac
  done
  # Not by `read`: it reads single bytes, and Linux 6.1 answers those with end of file here.
  for list in $(cat /sys/devices/system/cpu/cpu[0-9]*/topology/thread_siblings_list); do
    count_siblings "$list"
    [ "$siblings" -le "$threads" ] || threads=$siblings
  done
  # A kernel that runs without SMP has no topology folders at all.
  [ "$cpus" -gt 0 ] || cpus=$(nproc)
  echo "VOLT-GUEST cpus=$cpus sockets=$sockets cores=$cores threads=$threads"
}

print_memory() {
  while read -r name value _; do
    [ "$name" != MemTotal: ] || echo "VOLT-GUEST mem=$value"
  done </proc/meminfo
}

run_spin() { # never returns
  for cpu in /sys/devices/system/cpu/cpu[0-9]*; do
    taskset -c "${cpu##*/cpu}" sh -c 'while :; do :; done' &
  done
  beat=0
  while :; do
    beat=$((beat + 1))
    echo "VOLT-GUEST beat $beat"
    echo "VOLT-GUEST $(grep NMI: /proc/interrupts)"
    sleep 1
  done
}

run_check() {
  if [ "$1" = spin ]; then
    run_spin
  elif [ -x "/checks/$1" ]; then
    "/checks/$1"
    echo "VOLT-GUEST check=$1 exit=$?"
  else
    echo "VOLT-GUEST check=$1 missing"
  fi
}

read -r cmdline </proc/cmdline
print_topology
print_memory
echo "VOLT-GUEST cmdline=$cmdline"

end=reboot
for word in $cmdline; do
  case "$word" in
    volt.end=*) end=${word#volt.end=} ;;
    volt.run=*) run_check "${word#volt.run=}" ;;
  esac
done
echo 'VOLT-GUEST done'

case "$end" in
  shell) setsid cttyhack sh ;;
  panic) echo c >/proc/sysrq-trigger ;;
  poweroff) poweroff -f ;;
  halt) halt -f ;;
esac
reboot -f
