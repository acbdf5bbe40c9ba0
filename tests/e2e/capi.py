"""The C interface through ctypes: what capi_test.cc runs against a scripted router. Arguments: LIBRARY connect|serve NAME."""
import ctypes
import errno
import os
import socket
import sys

ipc = ctypes.CDLL(sys.argv[1], use_errno=True)
ipc.ipc_error_text.restype = ipc.ipc_error_word.restype = ctypes.c_char_p
ipc.ipc_serve.restype = ctypes.c_void_p
ipc.ipc_serve.argtypes = [ctypes.c_char_p, ctypes.c_uint, ctypes.c_char_p]
ipc.ipc_accept.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_void_p)]
ipc.ipc_service_free.argtypes = ipc.ipc_info_free.argtypes = [ctypes.c_void_p]
ipc.ipc_info_label.restype = ctypes.c_char_p
ipc.ipc_info_label.argtypes = [ctypes.c_void_p, ctypes.c_char_p]


def check(fd):
    if fd >= 0:
        return fd
    code = ctypes.get_errno()
    sys.exit(f"{errno.errorcode[code]} {ipc.ipc_error_word().decode()}: {ipc.ipc_error_text().decode()}")


def connect(name):
    with socket.socket(fileno=check(ipc.ipc_connect(name))) as pong:
        print("inheritable", os.get_inheritable(pong.fileno()))
        pong.sendall(b"ping\n")
        print("answer", pong.recv(100).decode().strip())


def serve(name):
    service = ipc.ipc_serve(name, 0, None)
    if not service:
        check(-1)
    info = ctypes.c_void_p()
    with socket.socket(fileno=check(ipc.ipc_accept(service, 10000, ctypes.byref(info)))) as caller:
        print("uid", ipc.ipc_info_label(info, b"client.uid").decode())
        caller.sendall(b"hello from python")
    ipc.ipc_info_free(info)
    ipc.ipc_service_free(service)


{"connect": connect, "serve": serve}[sys.argv[2]](sys.argv[3].encode())
