#!/bin/sh
# Brings every CPU online that appears, proves that it runs something, and says so. Ends at the power button.
export PATH=/bin
for module in /modules/*.ko; do [ -e "$module" ] && insmod "$module"; done

# The power button is the input device whose name says so.
for device in /sys/class/input/event*; do
  case "$(cat "$device/device/name" 2>/dev/null)" in
    *'Power Button'*) button=/dev/input/${device##*/} ;;
  esac
done
if [ -n "$button" ]; then
  (head -c 1 "$button" >/dev/null && echo 'VOLT-GUEST power button' && poweroff -f) &
fi
echo "VOLT-GUEST button=${button:-none}"

known=' '
while :; do
  now=' '
  for folder in /sys/devices/system/cpu/cpu[0-9]*; do
    cpu=${folder##*/cpu}
    now="$now$cpu "
    if [ "$cpu" != 0 ] && [ "$(cat "$folder/online" 2>/dev/null)" = 0 ]; then
      # It may be on its way out already.
      echo 1 2>/dev/null >"$folder/online" || continue
    fi
    case "$known" in
      *" $cpu "*) ;;
      *)
        # Field 39 of stat is the CPU that the process ran on last.
        ran=$(taskset -c "$cpu" cat /proc/self/stat 2>/dev/null | cut -d' ' -f39)
        [ -n "$ran" ] && echo "VOLT-GUEST cpu $cpu is here, ran on $ran" || now=${now% "$cpu "}
        ;;
    esac
  done
  for cpu in $known; do
    case "$now" in
      *" $cpu "*) ;;
      *) echo "VOLT-GUEST cpu $cpu is gone" ;;
    esac
  done
  known=$now
  sleep 0.1
done
