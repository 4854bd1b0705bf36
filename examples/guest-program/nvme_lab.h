/* The line protocol of NVMe Lab's adapter guest-program for C: docs/guest-programs.md.
 *
 *     struct nl_request request;
 *     while (nl_next(&request))
 *         if (nl_is(&request, "read"))
 *             nl_data(buffer, bytes);
 *         else
 *             nl_unsupported();
 */
#ifndef NVME_LAB_H
#define NVME_LAB_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct nl_request {
    char line[65536];       /* the action and its arguments */
    unsigned char *data;    /* what a write shall write */
    size_t bytes;           /* how many of them */
};

/* Returns the text behind KEY= in the request, up to a space or the end; NULL where there is none. */
static inline const char *nl_argument(const struct nl_request *request, const char *key)
{
    size_t length = strlen(key);
    for (const char *at = request->line; (at = strstr(at, key)) != NULL; at += length)
        if (at > request->line && at[-1] == ' ' && at[length] == '=')
            return at + length + 1;
    return NULL;
}

static inline unsigned long long nl_number(const struct nl_request *request, const char *key, unsigned long long missing)
{
    const char *found = nl_argument(request, key);
    return found ? strtoull(found, NULL, 0) : missing;
}

/* Waits for the next request; 0 when there is none any more. */
static inline int nl_next(struct nl_request *request)
{
    if (!fgets(request->line, sizeof request->line, stdin))
        return 0;
    request->line[strcspn(request->line, "\n")] = 0;
    request->bytes = nl_number(request, "nbytes", 0);
    free(request->data);
    request->data = request->bytes ? malloc(request->bytes) : NULL;
    return !request->bytes || (request->data && fread(request->data, 1, request->bytes, stdin) == request->bytes);
}

static inline int nl_is(const struct nl_request *request, const char *action)
{
    size_t length = strlen(action);
    return !strncmp(request->line, action, length) && (request->line[length] == ' ' || !request->line[length]);
}

/* Answers with success; FIELDS is a JSON object, "{}" for none. */
static inline void nl_fields(const char *fields)
{
    printf("{\"status\": \"success\", \"fields\": %s}\n", fields);
    fflush(stdout);
}

static inline void nl_data(const void *data, size_t bytes)
{
    printf("{\"status\": \"success\", \"bytes\": %zu}\n", bytes);
    fwrite(data, 1, bytes, stdout);
    fflush(stdout);
}

/* A command ended with this status. */
static inline void nl_status(unsigned sct, unsigned sc)
{
    printf("{\"status\": {\"sct\": %u, \"sc\": %u}}\n", sct, sc);
    fflush(stdout);
}

/* It failed in the driver's own words, which hold no quotes. Use it for a command that the driver gave up, too. */
static inline void nl_words(const char *words)
{
    printf("{\"status\": {\"words\": \"%s\"}}\n", words);
    fflush(stdout);
}

static inline void nl_unsupported(void)
{
    puts("{\"status\": \"unsupported\"}");
    fflush(stdout);
}

#endif
