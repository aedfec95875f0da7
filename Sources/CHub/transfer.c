// Opens libcurl and performs one transfer at a time. The declarations are our own, of what libcurl's manual promises to
// keep for as long as the library is called libcurl.so.4, so that building needs no headers of it.
#include "CHub.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

typedef struct CURL CURL;
typedef struct CURLU CURLU;
typedef struct curl_slist curl_slist;

// curl/curl.h, curl/urlapi.h
enum {
    optionWriteData = 10001, optionURL = 10002, optionErrorBuffer = 10010, optionUserAgent = 10018,
    optionHTTPHeader = 10023, optionHeaderData = 10029, optionProgressData = 10057, optionCAInfo = 10065,
    optionCAPath = 10097,
    optionLowSpeedLimit = 19, optionLowSpeedTime = 20, optionNoProgress = 43, optionNoBody = 44,
    optionFollowLocation = 52, optionConnectTimeout = 78, optionBufferSize = 98, optionNoSignal = 99,
    optionProtocols = 181,
    optionWriteFunction = 20011, optionHeaderFunction = 20079, optionProgressFunction = 20219,
    protocolHTTP = 1, protocolHTTPS = 2,
    infoResponseCode = 0x200000 + 2, infoRedirectURL = 0x100000 + 31,
    partURL = 0, partScheme = 1, partHost = 5, partPort = 6, flagDefaultPort = 1,
    globalAll = 3, codeFailedInit = 2, codeOutOfMemory = 27,
};

static struct {
    int (*curl_global_init)(long);
    CURL *(*curl_easy_init)(void);
    int (*curl_easy_setopt)(CURL *, int, ...);
    int (*curl_easy_perform)(CURL *);
    int (*curl_easy_getinfo)(CURL *, int, ...);
    void (*curl_easy_reset)(CURL *);
    void (*curl_easy_cleanup)(CURL *);
    const char *(*curl_easy_strerror)(int);
    curl_slist *(*curl_slist_append)(curl_slist *, const char *);
    void (*curl_slist_free_all)(curl_slist *);
    CURLU *(*curl_url)(void);
    int (*curl_url_set)(CURLU *, int, const char *, unsigned);
    int (*curl_url_get)(CURLU *, int, char **, unsigned);
    void (*curl_url_cleanup)(CURLU *);
    void (*curl_free)(void *);
} curl;

static bool loaded = false;

static void load(void) {
#ifdef __APPLE__
    const char *names[] = {"libcurl.4.dylib"};
#else
    const char *names[] = {"libcurl.so.4", "libcurl-gnutls.so.4"};
#endif
    void *library = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names && library == NULL; i++) {
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    }
    if (library == NULL) { return; }
    void *address;
#define FILL(name) \
    address = dlsym(library, #name); \
    if (address == NULL) { return; } \
    curl.name = (__typeof__(curl.name))address;
    FILL(curl_global_init)
    FILL(curl_easy_init)
    FILL(curl_easy_setopt)
    FILL(curl_easy_perform)
    FILL(curl_easy_getinfo)
    FILL(curl_easy_reset)
    FILL(curl_easy_cleanup)
    FILL(curl_easy_strerror)
    FILL(curl_slist_append)
    FILL(curl_slist_free_all)
    FILL(curl_url)
    FILL(curl_url_set)
    FILL(curl_url_get)
    FILL(curl_url_cleanup)
    FILL(curl_free)
#undef FILL
    loaded = curl.curl_global_init(globalAll) == 0;
}

bool chub_curl_load(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load);
    return loaded;
}

CHubSession *chub_session_open(void) { return (CHubSession *)curl.curl_easy_init(); }

void chub_session_close(CHubSession *session) {
    if (session != NULL) { curl.curl_easy_cleanup((CURL *)session); }
}

static size_t writeBody(char *bytes, size_t size, size_t count, void *context) {
    const CHubRequest *request = context;
    return request->onBody(request->context, bytes, size * count) ? size * count : 0;
}

static size_t writeHeader(char *bytes, size_t size, size_t count, void *context) {
    const CHubRequest *request = context;
    return request->onHeader(request->context, bytes, size * count) ? size * count : 0;
}

static int tick(void *context, int64_t total, int64_t done, int64_t uploadTotal, int64_t uploadDone) {
    const CHubRequest *request = context;
    return request->onTick(request->context) ? 0 : 1;
}

void chub_perform(CHubSession *session, const CHubRequest *request, CHubResponse *response) {
    CURL *handle = (CURL *)session;
    *response = (CHubResponse){0};
    curl_slist *headers = NULL;
    for (const char *const *header = request->headers; *header != NULL; header++) {
        curl_slist *longer = curl.curl_slist_append(headers, *header);
        if (longer == NULL) {
            curl.curl_slist_free_all(headers);
            response->code = codeOutOfMemory;
            return;
        }
        headers = longer;
    }
    curl.curl_easy_reset(handle);  // Connections stay open.
    int code = 0;
#define SET(option, value) \
    if (code == 0) { code = curl.curl_easy_setopt(handle, option, value); }
    SET(optionErrorBuffer, response->message)
    SET(optionURL, request->url)
    SET(optionProtocols, (long)(protocolHTTP | protocolHTTPS))
    SET(optionFollowLocation, 0L)
    SET(optionHTTPHeader, headers)
    SET(optionUserAgent, request->userAgent)
    SET(optionNoBody, request->headersOnly ? 1L : 0L)
    SET(optionNoSignal, 1L)
    SET(optionConnectTimeout, (long)request->connectTimeout)
    SET(optionLowSpeedLimit, 1L)
    SET(optionLowSpeedTime, (long)request->stallTimeout)
    SET(optionBufferSize, 1L << 18)
    if (request->certificateFile != NULL) { SET(optionCAInfo, request->certificateFile) }
    if (request->certificateFolder != NULL) { SET(optionCAPath, request->certificateFolder) }
    SET(optionWriteFunction, writeBody)
    SET(optionWriteData, request)
    SET(optionHeaderFunction, writeHeader)
    SET(optionHeaderData, request)
    SET(optionProgressFunction, tick)
    SET(optionProgressData, request)
    SET(optionNoProgress, 0L)
#undef SET
    if (code == 0) { code = curl.curl_easy_perform(handle); }
    response->code = code;
    long status = 0;
    if (curl.curl_easy_getinfo(handle, infoResponseCode, &status) == 0) { response->status = (int32_t)status; }
    const char *redirect = NULL;
    if (curl.curl_easy_getinfo(handle, infoRedirectURL, &redirect) == 0 && redirect != NULL) {
        // One that does not fit is none: the caller then says that the redirect leads nowhere.
        if (strlen(redirect) < sizeof response->redirect) { strcpy(response->redirect, redirect); }
    }
    if (code != 0 && response->message[0] == 0) {
        snprintf(response->message, sizeof response->message, "%s", curl.curl_easy_strerror(code));
    }
    curl.curl_easy_reset(handle);  // The handle must not keep pointers to what ends here.
    curl.curl_slist_free_all(headers);
}

bool chub_origin(const char *url, char *buffer, size_t size) {
    CURLU *parts = curl.curl_url();
    if (parts == NULL) { return false; }
    char *scheme = NULL, *host = NULL, *port = NULL;
    bool fits = false;
    if (curl.curl_url_set(parts, partURL, url, 0) == 0 && curl.curl_url_get(parts, partScheme, &scheme, 0) == 0 &&
        curl.curl_url_get(parts, partHost, &host, 0) == 0 &&
        curl.curl_url_get(parts, partPort, &port, flagDefaultPort) == 0) {
        int count = snprintf(buffer, size, "%s://%s:%s", scheme, host, port);
        fits = count > 0 && (size_t)count < size;
    }
    curl.curl_free(scheme);
    curl.curl_free(host);
    curl.curl_free(port);
    curl.curl_url_cleanup(parts);
    return fits;
}
