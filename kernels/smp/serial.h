/* serial.h: a 16550 UART at COM1. Bytes go out in the order given; no locking. */
#pragma once
#include "x86.h"

void serial_init(void);
void serial_write(const char *bytes, size_t length);
