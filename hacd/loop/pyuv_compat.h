/*
 * What pyuv 1.4.0 (2017) needs from a newer CPython (3.10 to 3.13), forced in
 * ahead of its sources with `-include`. Written for hacd; nothing of pyuv is
 * copied. Each entry names what CPython took away.
 */
#ifndef HACD_PYUV_COMPAT_H
#define HACD_PYUV_COMPAT_H

/* 3.10: "#" formats without it raise SystemError. pyuv defines it too, to the
 * same value, but only after this header has brought Python.h in. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* 3.10: Py_REFCNT is no lvalue any more; pyuv assigns to it where it resurrects
 * a handle. Py_SET_REFCNT is the new way, but the old spelling has to compile. */
#undef Py_REFCNT
#define Py_REFCNT(ob) (((PyObject *)(ob))->ob_refcnt)

/* 3.12: the Py_UNICODE API is gone. pyuv uses these three together, in one
 * expression, which means PyUnicode_AsEncodedString(u, "utf-8", errors). */
#undef PyUnicode_AS_UNICODE
#undef PyUnicode_GET_SIZE
#define PyUnicode_AS_UNICODE(u) (u)
#define PyUnicode_GET_SIZE(u) 0
#define PyUnicode_EncodeUTF8(u, size, errors) \
    PyUnicode_AsEncodedString((u), "utf-8", (errors))

/* 3.13: gone; it has done nothing since 3.9. */
#undef PyEval_InitThreads
#define PyEval_InitThreads() ((void)0)

#endif
