/* What libpreheat_eager.so exports: the library kernels behind one small C interface, so that oneDNN and its
 * thread library are loaded only where eager execution is asked for. All functions and kernels belong to one
 * thread at a time; the kernels run on the module's own threads (OpenMP). Which kernels there are:
 * kernel_table.h.
 */
#ifndef PREHEAT_EAGER_MODULE_API_H_
#define PREHEAT_EAGER_MODULE_API_H_

#include "abi/kernel_abi.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Is shown the rows of a probe: f32 [rows, columns], valid during the call. */
typedef void (*ph_probe)(const float* values, int64_t rows, int64_t columns, void* user);

typedef uint32_t ph_module_abi_version_function(void);    /* PH_ABI_VERSION */
typedef uint32_t ph_module_version_function(void);        /* kModuleVersion */
typedef const char* ph_module_identity_function(void);    /* "oneDNN 2.6.3 (commit), avx512_core_bf16" */
typedef int ph_module_bf16_function(void);                /* 1 where this CPU and library multiply bf16 */
typedef void ph_module_set_threads_function(int threads); /* 0: the library's own choice */
typedef void ph_module_set_probe_function(ph_probe probe, void* user); /* null: nobody looks */
typedef int64_t ph_module_packed_bytes_function(void);   /* of weights in the library's layouts */
typedef void ph_module_release_function(void);           /* drops packed weights: they are found by address */
typedef const char* ph_module_take_error_function(void); /* the first failure since the last call, or null */
typedef ph_kernel ph_module_kernel_function(const char* name); /* null: none of that name */

#ifdef __cplusplus
}
#endif

#endif /* PREHEAT_EAGER_MODULE_API_H_ */
