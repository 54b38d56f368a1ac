/* The loops as functions of Python: medmi.native.loops. Arguments are checked against the loop's row of the table. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <string.h>

#include "loops.h"
#include "sharing.h"

#define MOST_ARGUMENTS 16

/* Of each loop its name and its arguments: arrays of d double, f float, u uint32, q int64, b bytes or bools, those after a `>` written to;
n whole number, x real number. */
static const struct {
    const char *name, *types;
    void (*run)(const Argument *);
} LOOPS[] = {
    {"pair_up", "fn>dn", pair_up},
    {"sample", "dddf>f>f", sample},
    {"settle_rim", "f>ff>d", settle_rim},
    {"project", "ffdf>d", project},
    {"keep", "ddfdf>f>f>u>u>q>d>f>fn", keep},
    {"pull_back", "fffuuqffdf>dn", pull_back},
    {"compand", "fxxf>fn", compand},
    {"histogram", "ffuqfff>d>d", histogram},
    {"inform_tables", "dn>d>d>d", inform_tables},
    {"inform_points", "ffuuqfffn>d>f>f>d>f>fn", inform_points},
    {"inform_poses", "ddfdffffn>d>d>f>f>u>dn", inform_poses},
    {"pick", "dqnn>u>u>q", pick},
    {"share_within", "dq>d", share_within},
    {"chance", "un>f", chance},
    {"scatter", "uunnnn>f", scatter},
    {"interpolate", "ff>f", interpolate},
    {"steepen", "f>fn", steepen},
    {"see", "ddd>qn", see},
    {"accumulate", "fxxb>d>dn", accumulate},
    {"advance", "ddd>d", advance},
    {"determinants", "d>d", determinants},
    {"slopes", "ddd>d", slopes},
    {"propose", "qdd>dddx>d>d>d", propose},
    {"set_back", ">ddx", set_back},
    {"settle", "qbdddx>d>d>d>b", settle},
    {"update", ">ddd", update},
    {"place_pair", "dddd>d", place_pair},
    {"climb", "ddddxx>d", climb},
    {"price_strain", "ddn>d>d", price_strain},
    {"resample_rows", "fdnn>f", resample_rows},
    {"add_moments_float", "fffn>d", add_moments_float},
    {"add_moments_double", "dddn>d", add_moments_double},
    {"read_slopes_float", "fffnnf>f", read_slopes_float},
    {"read_slopes_double", "dddnnd>d", read_slopes_double},
};
#define LOOP_COUNT (sizeof LOOPS / sizeof LOOPS[0])

static const char *const FORMATS = "dfuqb";
/* How Python's buffers may name each type. */
static const char *const NAMES[] = {"d", "f", "IL", "qlQ", "?Bb"};
static const Py_ssize_t SIZES[] = {8, 4, 4, 8, 1};

static int has_type(const Py_buffer *view, char type) {
    const Py_ssize_t k = strchr(FORMATS, type) - FORMATS;
    return view->itemsize == SIZES[k] && view->ndim <= MOST_AXES && view->format[1] == '\0' && strchr(NAMES[k], view->format[0]) != NULL;
}

/* Whether the array could be taken; its buffer must be released then. */
static int take_array(PyObject *object, char type, int written, Py_buffer *view, Argument *argument) {
    if (PyObject_GetBuffer(object, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (written ? PyBUF_WRITABLE : 0)) < 0) return 0;
    if (!has_type(view, type)) {
        PyErr_Format(PyExc_TypeError, "an array of %s in %d dimensions, '%c' was expected", view->format, view->ndim, type);
        PyBuffer_Release(view);
        return 0;
    }
    argument->data = view->buf;
    argument->size = view->len / view->itemsize;
    for (int k = 0; k < view->ndim; k++) argument->shape[k] = view->shape[k];
    return 1;
}

static PyObject *call(PyObject *self, PyObject *const *objects, Py_ssize_t count) {
    const long loop = PyLong_AsLong(self);
    const char *type = LOOPS[loop].types;
    Argument arguments[MOST_ARGUMENTS];
    Py_buffer views[MOST_ARGUMENTS];
    int taken = 0, k = 0;
    for (; *type && k < count; type++, k++) {
        const int written = *type == '>';
        type += written;
        if (*type == 'n')
            arguments[k].whole = PyLong_AsLongLong(objects[k]);
        else if (*type == 'x')
            arguments[k].real = PyFloat_AsDouble(objects[k]);
        else
            taken += take_array(objects[k], *type, written, views + taken, arguments + k);
        if (PyErr_Occurred()) break;
    }
    if (!PyErr_Occurred() && (*type || k < count))
        PyErr_Format(PyExc_TypeError, "%s was given %zd arguments, it takes %s", LOOPS[loop].name, count, LOOPS[loop].types);
    if (!PyErr_Occurred()) {
        Py_BEGIN_ALLOW_THREADS
        LOOPS[loop].run(arguments);
        Py_END_ALLOW_THREADS
    }
    while (taken > 0) PyBuffer_Release(views + --taken);
    if (PyErr_Occurred()) return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef METHODS[LOOP_COUNT];

static PyObject *forget(PyObject *self, PyObject *nothing) {
    (void)self, (void)nothing;
    forget_threads();
    Py_RETURN_NONE;
}

static PyMethodDef FORGET[] = {{"forget_threads", forget, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL}};

static int fill(PyObject *module) {
    forget_threads();
    for (size_t k = 0; k < LOOP_COUNT; k++) {
        METHODS[k] = (PyMethodDef){LOOPS[k].name, (PyCFunction)(void (*)(void))call, METH_FASTCALL, NULL};
        PyObject *place = PyLong_FromSize_t(k), *function = place ? PyCFunction_New(METHODS + k, place) : NULL;
        Py_XDECREF(place);
        const int failed = !function || PyModule_AddObjectRef(module, LOOPS[k].name, function) < 0;
        Py_XDECREF(function);
        if (failed) return -1;
    }
    return 0;
}

static PyModuleDef_Slot SLOTS[] = {{Py_mod_exec, fill}, {0, NULL}};
static PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, .m_name = "loops", .m_methods = FORGET, .m_slots = SLOTS};

PyMODINIT_FUNC PyInit_loops(void) { return PyModuleDef_Init(&MODULE); }
