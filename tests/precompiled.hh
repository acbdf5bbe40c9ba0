// What nearly every test includes, compiled once.
#include <criterion/criterion.h>

#include <thread>

#include "tools/precompiled.hh"
