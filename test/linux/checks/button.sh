#!/bin/sh
# A guest that serves until somebody presses its power button.
export PATH=/bin
for module in /modules/*.ko; do insmod "$module"; done

# The power button is the input device whose name says so.
for device in /sys/class/input/event*; do
  case "$(cat "$device/device/name" 2>/dev/null)" in
    *'Power Button'*) button=/dev/input/${device##*/} ;;
  esac
done
echo "VOLT-GUEST serves, button=${button:-none}"
head -c 1 "$button" >/dev/null
echo 'VOLT-GUEST power button'
poweroff -f
