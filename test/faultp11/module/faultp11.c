/* A PKCS#11 module that passes every call on to another module, except for what a script tells it to do wrong.
 *
 * FAULTP11_MODULE is the other module, FAULTP11_SCRIPT the script, FAULTP11_TRACE a file to which the name and the
 * return value of every call is appended. The script is read at each call. Its first line is a number; when it changes,
 * all counters begin anew. Every other line is a rule:
 *
 *     FUNCTION SKIP TIMES ACTION [ARGUMENT]
 *
 * which leaves SKIP calls of FUNCTION alone and then applies to TIMES calls; of several, the first. The actions are
 *
 *     rv N          return N and do nothing
 *     after N       do it, then return N
 *     sleep MS      do it MS milliseconds late
 *     turn MS       do it MS milliseconds late, one call at a time, as a slow token does
 *     hang          wait until the rule is gone from the script, then return CKR_FUNCTION_FAILED
 *     crash         end the process by SIGSEGV
 *     leak MIB      do it, and keep MIB megabytes
 *     invalidate    end every session first, as a daemon that starts anew does
 *     flip          do it, then flip a bit of the signature; for C_Sign
 *     swap LABEL    do it with the private key that has the label; for C_SignInit
 *
 * The directive "pin-tries N" gives the token a user PIN that locks after N wrong ones in a row, with the flags that
 * tell of it. The count is kept beside the script, since a token keeps it too. The directive "validation" gives the token a
 * validation object, as tokens of Cryptoki 3.2 may have. */

#define CK_PTR *
#define CK_DEFINE_FUNCTION(type, name) type name
#define CK_DECLARE_FUNCTION(type, name) type name
#define CK_DECLARE_FUNCTION_POINTER(type, name) type(*name)
#define CK_CALLBACK_FUNCTION(type, name) type(*name)
#ifndef NULL_PTR
#define NULL_PTR 0
#endif
#include "pkcs11.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_RULES 32

struct rule {
    char function[40], action[16], argument[40];
    long skip, times, seen;
};

static CK_FUNCTION_LIST_PTR real;
static CK_FUNCTION_LIST table;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER, turn = PTHREAD_MUTEX_INITIALIZER;
static struct rule rules[MAX_RULES];
static int rule_count;
static long generation = -1, pin_tries, validation;

static void beside(char *path, size_t size, const char *suffix)
{
    const char *script = getenv("FAULTP11_SCRIPT");
    snprintf(path, size, "%s%s", script ? script : "/nonexistent", suffix);
}

/* read_script takes over the script if its number has changed. The caller holds lock. */
static void read_script(void)
{
    char path[4096], line[256];
    beside(path, sizeof path, "");
    FILE *f = fopen(path, "r");
    if (!f)
        return;
    long number = -1;
    if (fgets(line, sizeof line, f))
        number = strtol(line, NULL, 10);
    if (number != generation) {
        generation = number;
        rule_count = 0;
        pin_tries = validation = 0;
        while (rule_count < MAX_RULES && fgets(line, sizeof line, f)) {
            struct rule *r = &rules[rule_count];
            memset(r, 0, sizeof *r);
            if (sscanf(line, "pin-tries %ld", &pin_tries) == 1)
                continue;
            if (strcmp(line, "validation\n") == 0) {
                validation = 1;
                continue;
            }
            if (sscanf(line, "%39s %ld %ld %15s %39s", r->function, &r->skip, &r->times, r->action, r->argument) >= 4)
                rule_count++;
        }
    }
    fclose(f);
}

/* match copies the first rule that applies to this call of a function, and returns whether there is one. */
static int match(const char *function, struct rule *out, long *when)
{
    int found = 0;
    pthread_mutex_lock(&lock);
    read_script();
    *when = generation;
    for (int i = 0; i < rule_count; i++) {
        struct rule *r = &rules[i];
        if (strcmp(r->function, function) != 0)
            continue;
        long n = r->seen++;
        if (!found && n >= r->skip && n < r->skip + r->times) {
            *out = *r;
            found = 1;
        }
    }
    pthread_mutex_unlock(&lock);
    return found;
}

static void trace(const char *function, CK_RV rv)
{
    const char *path = getenv("FAULTP11_TRACE");
    char line[128];
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    if (fd < 0)
        return;
    int n = snprintf(line, sizeof line, "%s 0x%lx\n", function, (unsigned long)rv);
    if (write(fd, line, n) != n)
        abort();
    close(fd);
}

static void rest(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

static void wait_for_change(long when)
{
    for (;;) {
        pthread_mutex_lock(&lock);
        read_script();
        int changed = generation != when;
        pthread_mutex_unlock(&lock);
        if (changed)
            return;
        rest(5);
    }
}

static void leak(long mib)
{
    char *p = malloc((size_t)mib << 20);
    if (p)
        memset(p, 1, (size_t)mib << 20);
}

static void end_sessions(void)
{
    CK_SLOT_ID slots[16];
    CK_ULONG n = 16;
    if (real->C_GetSlotList(CK_TRUE, slots, &n) == CKR_OK)
        for (CK_ULONG i = 0; i < n; i++)
            real->C_CloseAllSessions(slots[i]);
}

/* before applies what comes before the call. It returns whether the call is left out, with the value to return. */
static int before(const char *function, struct rule *r, CK_RV *rv)
{
    long when, number;
    if (!match(function, r, &when)) {
        r->action[0] = 0;
        return 0;
    }
    number = strtol(r->argument, NULL, 0);
    if (strcmp(r->action, "rv") == 0) {
        *rv = (CK_RV)number;
        return 1;
    }
    if (strcmp(r->action, "hang") == 0) {
        wait_for_change(when);
        *rv = CKR_FUNCTION_FAILED;
        return 1;
    }
    if (strcmp(r->action, "sleep") == 0)
        rest(number);
    if (strcmp(r->action, "turn") == 0) {
        pthread_mutex_lock(&turn);
        rest(number);
        pthread_mutex_unlock(&turn);
    }
    if (strcmp(r->action, "crash") == 0) {
        signal(SIGSEGV, SIG_DFL);
        raise(SIGSEGV);
    }
    if (strcmp(r->action, "leak") == 0)
        leak(number);
    if (strcmp(r->action, "invalidate") == 0)
        end_sessions();
    return 0;
}

static CK_RV after(const char *function, const struct rule *r, CK_RV rv)
{
    if (strcmp(r->action, "after") == 0)
        rv = (CK_RV)strtol(r->argument, NULL, 0);
    trace(function, rv);
    return rv;
}

/* PASS defines a function that only passes on. */
#define PASS(name, params, args)                       \
    static CK_RV f_##name params                       \
    {                                                  \
        struct rule r;                                 \
        CK_RV rv;                                      \
        if (!before("C_" #name, &r, &rv))              \
            rv = real->C_##name args;                  \
        return after("C_" #name, &r, rv);              \
    }

PASS(Initialize, (CK_VOID_PTR a), (a))
PASS(Finalize, (CK_VOID_PTR a), (a))
PASS(GetInfo, (CK_INFO_PTR a), (a))
PASS(GetSlotList, (CK_BBOOL a, CK_SLOT_ID_PTR b, CK_ULONG_PTR c), (a, b, c))
PASS(GetMechanismList, (CK_SLOT_ID a, CK_MECHANISM_TYPE_PTR b, CK_ULONG_PTR c), (a, b, c))
PASS(GetMechanismInfo, (CK_SLOT_ID a, CK_MECHANISM_TYPE b, CK_MECHANISM_INFO_PTR c), (a, b, c))
PASS(OpenSession, (CK_SLOT_ID a, CK_FLAGS b, CK_VOID_PTR c, CK_NOTIFY d, CK_SESSION_HANDLE_PTR e), (a, b, c, d, e))
PASS(CloseSession, (CK_SESSION_HANDLE a), (a))
PASS(DestroyObject, (CK_SESSION_HANDLE a, CK_OBJECT_HANDLE b), (a, b))
PASS(FindObjectsFinal, (CK_SESSION_HANDLE a), (a))
PASS(GenerateKeyPair,
     (CK_SESSION_HANDLE a, CK_MECHANISM_PTR b, CK_ATTRIBUTE_PTR c, CK_ULONG d, CK_ATTRIBUTE_PTR e, CK_ULONG f,
      CK_OBJECT_HANDLE_PTR g, CK_OBJECT_HANDLE_PTR h),
     (a, b, c, d, e, f, g, h))

/* The validation object has a handle that no token gives, and is found by its class alone. */
#define VALIDATION 0x7a11da7e
#define CKO_VALIDATION 0xa
static int finding_validation;

static CK_RV f_FindObjectsInit(CK_SESSION_HANDLE session, CK_ATTRIBUTE_PTR template, CK_ULONG n)
{
    struct rule r;
    CK_RV rv;
    if (before("C_FindObjectsInit", &r, &rv))
        return after("C_FindObjectsInit", &r, rv);
    finding_validation = validation && n == 1 && template->type == CKA_CLASS && *(CK_ULONG *)template->pValue == CKO_VALIDATION;
    return after("C_FindObjectsInit", &r, real->C_FindObjectsInit(session, template, n));
}

static CK_RV f_FindObjects(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE_PTR objects, CK_ULONG max, CK_ULONG_PTR n)
{
    struct rule r;
    CK_RV rv;
    if (before("C_FindObjects", &r, &rv))
        return after("C_FindObjects", &r, rv);
    rv = real->C_FindObjects(session, objects, max, n);
    if (rv == CKR_OK && *n < max && finding_validation) {
        objects[(*n)++] = VALIDATION;
        finding_validation = 0;
    }
    return after("C_FindObjects", &r, rv);
}

/* say answers a question for an attribute, or for its length. */
static CK_RV say(CK_ATTRIBUTE_PTR a, const void *value, CK_ULONG len)
{
    if (a->pValue && a->ulValueLen < len)
        return CKR_BUFFER_TOO_SMALL;
    if (a->pValue)
        memcpy(a->pValue, value, len);
    a->ulValueLen = len;
    return CKR_OK;
}

static CK_RV say_validation(CK_ATTRIBUTE_PTR a)
{
    CK_ULONG hardware = 2, level = 3, cmvp = 1;
    switch (a->type) {
    case 0x61f:
        return say(a, &hardware, sizeof hardware);
    case 0x621:
        return say(a, &level, sizeof level);
    case 0x622:
        return say(a, "Example HSM 7", 13);
    case 0x624:
        return say(a, &cmvp, sizeof cmvp);
    case 0x626:
        return say(a, "4711", 4);
    }
    a->ulValueLen = CK_UNAVAILABLE_INFORMATION;
    return CKR_ATTRIBUTE_TYPE_INVALID;
}

static CK_RV f_GetAttributeValue(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_PTR a, CK_ULONG n)
{
    struct rule r;
    CK_RV rv;
    if (before("C_GetAttributeValue", &r, &rv))
        return after("C_GetAttributeValue", &r, rv);
    if (object != VALIDATION)
        return after("C_GetAttributeValue", &r, real->C_GetAttributeValue(session, object, a, n));
    for (rv = CKR_OK; rv == CKR_OK && n > 0; n--)
        rv = say_validation(a++);
    return after("C_GetAttributeValue", &r, rv);
}

static CK_RV f_GetTokenInfo(CK_SLOT_ID slot, CK_TOKEN_INFO_PTR info)
{
    struct rule r;
    CK_RV rv;
    char path[4096];
    long wrong = 0;
    if (!before("C_GetTokenInfo", &r, &rv))
        rv = real->C_GetTokenInfo(slot, info);
    beside(path, sizeof path, ".pin");
    FILE *f = fopen(path, "r");
    if (f && fscanf(f, "%ld", &wrong) != 1)
        wrong = 0;
    if (f)
        fclose(f);
    if (rv == CKR_OK && pin_tries > 0) {
        info->flags &= ~(CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_LOCKED);
        if (wrong > 0)
            info->flags |= CKF_USER_PIN_COUNT_LOW;
        if (wrong == pin_tries - 1)
            info->flags |= CKF_USER_PIN_FINAL_TRY;
        if (wrong >= pin_tries)
            info->flags |= CKF_USER_PIN_LOCKED;
    }
    return after("C_GetTokenInfo", &r, rv);
}

static CK_RV f_Login(CK_SESSION_HANDLE session, CK_USER_TYPE user, CK_UTF8CHAR_PTR pin, CK_ULONG len)
{
    struct rule r;
    CK_RV rv;
    char path[4096];
    long wrong = 0;
    if (before("C_Login", &r, &rv))
        return after("C_Login", &r, rv);
    beside(path, sizeof path, ".pin");
    FILE *f = fopen(path, "r");
    if (f && fscanf(f, "%ld", &wrong) != 1)
        wrong = 0;
    if (f)
        fclose(f);
    if (pin_tries > 0 && wrong >= pin_tries)
        return after("C_Login", &r, CKR_PIN_LOCKED);
    rv = real->C_Login(session, user, pin, len);
    f = pin_tries > 0 ? fopen(path, "w") : NULL;
    if (f) {
        fprintf(f, "%ld\n", rv == CKR_PIN_INCORRECT ? wrong + 1 : 0);
        fclose(f);
    }
    return after("C_Login", &r, rv);
}

static CK_RV f_SignInit(CK_SESSION_HANDLE session, CK_MECHANISM_PTR mechanism, CK_OBJECT_HANDLE key)
{
    struct rule r;
    CK_RV rv;
    if (before("C_SignInit", &r, &rv))
        return after("C_SignInit", &r, rv);
    if (strcmp(r.action, "swap") == 0) {
        CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
        CK_ATTRIBUTE want[] = {{CKA_CLASS, &class, sizeof class}, {CKA_LABEL, r.argument, strlen(r.argument)}};
        CK_ULONG n = 0;
        if (real->C_FindObjectsInit(session, want, 2) == CKR_OK) {
            real->C_FindObjects(session, &key, 1, &n);
            real->C_FindObjectsFinal(session);
        }
        if (n != 1)
            return after("C_SignInit", &r, CKR_GENERAL_ERROR);
    }
    return after("C_SignInit", &r, real->C_SignInit(session, mechanism, key));
}

static CK_RV f_Sign(CK_SESSION_HANDLE session, CK_BYTE_PTR data, CK_ULONG n, CK_BYTE_PTR sig, CK_ULONG_PTR len)
{
    struct rule r;
    CK_RV rv;
    if (sig == NULL) /* a question for the length is no signature */
        return real->C_Sign(session, data, n, sig, len);
    if (before("C_Sign", &r, &rv))
        return after("C_Sign", &r, rv);
    rv = real->C_Sign(session, data, n, sig, len);
    if (rv == CKR_OK && strcmp(r.action, "flip") == 0)
        sig[*len - 1] ^= 1;
    return after("C_Sign", &r, rv);
}

CK_RV C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR list)
{
    const char *path = getenv("FAULTP11_MODULE");
    void *module = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    CK_C_GetFunctionList get = module ? (CK_C_GetFunctionList)dlsym(module, "C_GetFunctionList") : NULL;
    if (!get || get(&real) != CKR_OK)
        return CKR_GENERAL_ERROR;
    table = *real; /* what is not used here is the other module's own */
#define OURS(name) table.C_##name = f_##name
    OURS(Initialize), OURS(Finalize), OURS(GetInfo), OURS(GetSlotList), OURS(GetTokenInfo), OURS(GetMechanismList);
    OURS(GetMechanismInfo), OURS(OpenSession), OURS(CloseSession), OURS(Login), OURS(DestroyObject);
    OURS(GetAttributeValue), OURS(FindObjectsInit), OURS(FindObjects), OURS(FindObjectsFinal), OURS(SignInit);
    OURS(Sign), OURS(GenerateKeyPair);
    *list = &table;
    return CKR_OK;
}
