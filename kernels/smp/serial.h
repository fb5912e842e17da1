/* serial.h: a 16550A UART at COM1. No locking. */
#pragma once
#include "x86.h"

void serial_init(void);
void serial_write(const char *bytes, size_t length);
