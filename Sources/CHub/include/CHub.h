// What CLIPHub needs of C: libcurl as a table filled at run time, so that a binary starts on a machine that has none;
// the two digests by which hubs name their files; and the table of known weights as bytes in the binary.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// MARK: Transfers

/// Opens libcurl once. On failure nothing else here may be called but the digests and the table.
bool chub_curl_load(void);

/// A client with its open connections; one thread at a time.
typedef struct CHubSession CHubSession;

/// None where memory runs out.
CHubSession *_Nullable chub_session_open(void);
void chub_session_close(CHubSession *_Nullable session);

/// One request. Redirects are not followed: whoever asks decides what the next host may be told.
typedef struct {
    const char *_Nonnull url;
    /// "Name: value" each, ended by a null pointer.
    const char *_Nullable const *_Nonnull headers;
    bool headersOnly;
    const char *_Nonnull userAgent;
    /// Certificates to trust instead of the system's.
    const char *_Nullable certificateFile;
    const char *_Nullable certificateFolder;
    /// Seconds to connect in, and seconds without a byte after which a transfer has failed.
    int32_t connectTimeout;
    int32_t stallTimeout;
    void *_Nullable context;
    /// One line of the response's head, its line end included. The transfer stops where these give false.
    bool (*_Nonnull onHeader)(void *_Nullable context, const char *_Nonnull line, size_t count);
    bool (*_Nonnull onBody)(void *_Nullable context, const void *_Nonnull bytes, size_t count);
    /// Called about every second, and more often while bytes arrive.
    bool (*_Nonnull onTick)(void *_Nullable context);
} CHubRequest;

typedef struct {
    /// libcurl's CURLcode; 0 is success.
    int32_t code;
    /// Of HTTP; 0 where there was no response.
    int32_t status;
    /// libcurl's own words, or empty.
    char message[256];
    /// Where a redirect leads, as a whole URL, or empty.
    char redirect[4096];
} CHubResponse;

/// Performs a request and waits for its end.
void chub_perform(CHubSession *_Nonnull session, const CHubRequest *_Nonnull request, CHubResponse *_Nonnull response);

/// Writes scheme, host and port of a URL as libcurl reads them ("https://host:443"); false where it is no URL.
bool chub_origin(const char *_Nonnull url, char *_Nonnull buffer, size_t size);

// MARK: Digests

/// SHA-256 (FIPS 180-4) of bytes that come in pieces.
typedef struct {
    uint32_t state[8];
    uint64_t count;
    uint8_t block[64];
    bool uses_instructions;
} CHubSHA256;

/// `plain`: in C, even where the processor has instructions for it.
void chub_sha256_begin(CHubSHA256 *_Nonnull hash, bool plain);
void chub_sha256_update(CHubSHA256 *_Nonnull hash, const void *_Nullable bytes, size_t count);
void chub_sha256_end(CHubSHA256 *_Nonnull hash, uint8_t digest[_Nonnull 32]);

/// SHA-1 (FIPS 180-4), by which git names blobs. It finds accidents, not attacks.
typedef struct {
    uint32_t state[5];
    uint64_t count;
    uint8_t block[64];
} CHubSHA1;

void chub_sha1_begin(CHubSHA1 *_Nonnull hash);
void chub_sha1_update(CHubSHA1 *_Nonnull hash, const void *_Nullable bytes, size_t count);
void chub_sha1_end(CHubSHA1 *_Nonnull hash, uint8_t digest[_Nonnull 20]);

// MARK: Known weights

/// The text of Data/models.json, which tools/make_model_table.py writes.
const uint8_t *_Nonnull chub_model_table(void);
size_t chub_model_table_count(void);
