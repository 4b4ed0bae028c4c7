/* SPDX-License-Identifier: GPL-3.0-or-later */
/* secret.c - see secret.h. The words of what can be wrong with an object are qemu-img's. */
#include "secret.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <termios.h>
#include <unistd.h>

#include "option_list.h"
#include "report.h"

#define MAX_SECRET (1u << 20) /* bytes of a file */
#define MAX_TYPED 512
#define ROOM 4096 /* the least that is allocated: pages, so that they can be kept out of core dumps */

struct secret {
    struct secret *next;
    char *id;
    struct img_key key;
};

static struct secret *secrets;
static const struct img_key *standard; /* --key, --key-file, or typed for all */

/* ---- memory ----------------------------------------------------------------------------------- */

static size_t pages(size_t count) {
    return (count + ROOM) & ~(size_t)(ROOM - 1);
}

static uint8_t *secret_memory(size_t count) {
    void *memory = mmap(NULL, pages(count), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        out_of_memory();
    (void)madvise(memory, pages(count), MADV_DONTDUMP);
    (void)mlock(memory, pages(count));
    return memory;
}

static void wipe(const struct img_key *key) {
    if (!key->bytes)
        return;
    OPENSSL_cleanse((void *)key->bytes, key->length);
    munmap((void *)key->bytes, pages(key->length));
}

static void wipe_all(void) {
    while (secrets) {
        struct secret *s = secrets;
        secrets = s->next;
        wipe(&s->key);
        free(s->id);
        free(s);
    }
}

/* Takes the key over. */
static const struct img_key *keep(const char *id, struct img_key key) {
    static bool registered;
    struct secret *s = memory(1, sizeof *s);
    if (!registered)
        atexit(wipe_all);
    registered = true;
    *s = (struct secret){.next = secrets, .id = text_copy(id), .key = key};
    secrets = s;
    return &s->key;
}

const struct img_key *secret_find(const char *id) {
    for (const struct secret *s = secrets; s; s = s->next)
        if (strcmp(s->id, id) == 0)
            return &s->key;
    return NULL;
}

/* ---- where a passphrase comes from ------------------------------------------------------------- */

static int fail(const char *path) {
    report("Unable to read %s: %s", path, strerror(errno));
    return -1;
}

/* A whole file, as it is. "-" is the standard input. */
static int read_file(const char *path, struct img_key *key) {
    int fd = strcmp(path, "-") == 0 ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        report("Unable to read %s: Failed to open file “%s”: %s", path, path, strerror(errno));
        return -1;
    }
    uint8_t *bytes = secret_memory(MAX_SECRET + 1);
    size_t used = 0;
    ssize_t n;
    while ((n = read(fd, bytes + used, MAX_SECRET + 1 - used)) > 0 || (n < 0 && errno == EINTR))
        used += n > 0 ? (size_t)n : 0;
    int r = n < 0 ? fail(path) : 0;
    close(fd);
    if (r == 0 && used > MAX_SECRET) {
        report("Unable to read %s: a secret has at most %u bytes", path, MAX_SECRET);
        r = -1;
    }
    struct img_key all = {bytes, MAX_SECRET + 1};
    if (r == 0) {
        uint8_t *copy = secret_memory(used);
        memcpy(copy, bytes, used);
        *key = (struct img_key){copy, used};
    }
    wipe(&all);
    return r;
}

static struct img_key from_text(const char *text) {
    size_t length = strlen(text);
    uint8_t *bytes = secret_memory(length);
    memcpy(bytes, text, length);
    return (struct img_key){bytes, length};
}

/* Replaces the base64 text in *key by what it stands for; white space may be between. */
static bool decode_base64(struct img_key *key) {
    const uint8_t *in = key->bytes;
    uint8_t *out = secret_memory(key->length), *packed = secret_memory(key->length);
    size_t n = 0, padding = 0;
    bool good = true;
    for (size_t i = 0; i < key->length; i++) {
        if (isspace(in[i]))
            continue;
        good &= padding == 0 || in[i] == '=';
        padding += in[i] == '=';
        packed[n++] = in[i];
    }
    good &= n % 4 == 0 && padding <= 2;
    int length = good && n > 0 ? EVP_DecodeBlock(out, packed, (int)n) : 0;
    good &= length >= 0;
    struct img_key text = {packed, key->length}, whole = {out, key->length};
    wipe(&text);
    if (!good) {
        wipe(&whole);
        return false;
    }
    size_t count = (size_t)length - (length > 0 ? padding : 0);
    wipe(key);
    *key = (struct img_key){secret_memory(count), count};
    memcpy((void *)key->bytes, out, count);
    wipe(&whole);
    return true;
}

/* AES-256-CBC under another secret, padded. */
static bool decrypt(struct img_key *key, const struct img_key *master, const struct img_key *iv) {
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    uint8_t *out = secret_memory(key->length + EVP_MAX_BLOCK_LENGTH);
    int n = 0, last = 0;
    bool good = c && EVP_DecryptInit_ex2(c, EVP_aes_256_cbc(), master->bytes, iv->bytes, NULL) == 1 &&
                EVP_DecryptUpdate(c, out, &n, key->bytes, (int)key->length) == 1 &&
                EVP_DecryptFinal_ex(c, out + n, &last) == 1;
    EVP_CIPHER_CTX_free(c);
    if (good) {
        struct img_key plain = {secret_memory((size_t)(n + last)), (size_t)(n + last)};
        memcpy((void *)plain.bytes, out, plain.length);
        wipe(key);
        *key = plain;
    }
    struct img_key whole = {out, key->length + EVP_MAX_BLOCK_LENGTH};
    OPENSSL_cleanse(out, (size_t)(n + last));
    munmap(out, pages(whole.length));
    return good;
}

/* ---- --object ----------------------------------------------------------------------------------- */

enum property { TYPE, ID, DATA, SECRET_FILE, FORMAT, KEYID, IV, PROPERTIES };
static const char *const property_names[PROPERTIES] = {
    [TYPE] = "qom-type", [ID] = "id",       [DATA] = "data", [SECRET_FILE] = "file",
    [FORMAT] = "format", [KEYID] = "keyid", [IV] = "iv"};

struct object {
    char *values[PROPERTIES]; /* NULL: not given */
};

static void object_free(struct object *o) {
    for (int i = 0; i < PROPERTIES; i++) {
        if (o->values[i])
            OPENSSL_cleanse(o->values[i], strlen(o->values[i]));
        free(o->values[i]);
    }
}

/* Takes a value over. */
static bool set_property(struct object *o, const char *name, char *value) {
    for (int i = 0; i < PROPERTIES; i++)
        if (strcmp(name, property_names[i]) == 0) {
            free(o->values[i]);
            o->values[i] = value;
            return true;
        }
    report("Parameter '%s' is unexpected", name);
    free(value);
    return false;
}

static bool parse_list(const char *text, struct object *o) {
    bool good = true;
    for (bool first = true; good && *text; first = false) {
        char *name, *value;
        text = option_list_next(text, &name, &value);
        if (first && !value)
            good = set_property(o, "qom-type", text_copy(name));
        else
            good = set_property(o, name, value ? value : text_copy("on"));
        free(name);
    }
    return good;
}

static bool parse_json(const char *text, struct object *o) {
    json_error_t error;
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &error), *value;
    const char *name;
    bool good = json_is_object(root);
    if (!good)
        report("JSON parse error, %s", root ? "an object is expected" : error.text);
    else
        json_object_foreach(root, name, value) {
            if (good && !json_is_string(value))
                report("Invalid parameter type for '%s', expected: string", name);
            good = good && json_is_string(value) && set_property(o, name, text_copy(json_string_value(value)));
        }
    json_decref(root);
    return good;
}

static bool is_identifier(const char *id) {
    if (!isalpha((unsigned char)*id))
        return false;
    while (*id && (isalnum((unsigned char)*id) || strchr("-._", *id)))
        id++;
    return !*id;
}

static bool check_object(const struct object *o) {
    char *const *v = o->values;
    if (!v[TYPE])
        report("Parameter 'qom-type' is missing");
    else if (strcmp(v[TYPE], "secret") != 0)
        report("Parameter 'qom-type' does not accept value '%s'", v[TYPE]);
    else if (!v[ID])
        report("Parameter 'id' is missing");
    else if (!is_identifier(v[ID]))
        report_image_error(&(struct img_error){.text = "Parameter 'id' expects an identifier\nIdentifiers consist of "
                                                       "letters, digits, '-', '.', '_', starting with a letter."},
                           "%s", "--object");
    else if (v[FORMAT] && strcmp(v[FORMAT], "raw") != 0 && strcmp(v[FORMAT], "base64") != 0)
        report("Parameter 'format' does not accept value '%s'", v[FORMAT]);
    else if (v[DATA] && v[SECRET_FILE])
        report("'file' and 'data' are mutually exclusive");
    else if (!v[DATA] && !v[SECRET_FILE])
        report("Either 'file' or 'data' must be provided");
    else if (v[KEYID] && !secret_find(v[KEYID]))
        report("No secret with id '%s'", v[KEYID]);
    else if (v[KEYID] && !v[IV])
        report("IV is required to decrypt secret");
    else if (secret_find(v[ID]))
        report("attempt to add duplicate property '%s' to object (type 'container')", v[ID]);
    else
        return true;
    return false;
}

static bool decrypt_object(const struct object *o, struct img_key *key) {
    const struct img_key *master = secret_find(o->values[KEYID]);
    struct img_key iv = from_text(o->values[IV]);
    bool good = false;
    if (master->length != 32)
        report("Master key needs to be 32 bytes in length, not %zu", master->length);
    else if (!decode_base64(&iv))
        report("Base64 data '%s' is not valid", o->values[IV]);
    else if (iv.length != 16)
        report("IV should be 16 bytes in length not %zu", iv.length);
    else if (!(good = decrypt(key, master, &iv)))
        report("The secret '%s' does not decrypt with the secret '%s'", o->values[ID], o->values[KEYID]);
    wipe(&iv);
    return good;
}

static bool load(const struct object *o) {
    char *const *v = o->values;
    struct img_key key = {0};
    if (v[DATA])
        key = from_text(v[DATA]);
    else if (read_file(v[SECRET_FILE], &key) < 0)
        return false;
    bool good = true;
    if (v[FORMAT] && strcmp(v[FORMAT], "base64") == 0 && !decode_base64(&key)) {
        report("Base64 data of the secret '%s' is not valid", v[ID]);
        good = false;
    }
    if (good && v[KEYID])
        good = decrypt_object(o, &key);
    if (good)
        keep(v[ID], key);
    else
        wipe(&key);
    return good;
}

bool secret_add(const char *definition) {
    struct object o = {0};
    bool good = *definition == '{' ? parse_json(definition, &o) : parse_list(definition, &o);
    good = good && check_object(&o) && load(&o);
    object_free(&o);
    return good;
}

/* ---- a key for all ------------------------------------------------------------------------------ */

bool secret_use(const char *id) {
    standard = secret_find(id);
    if (!standard)
        report("No secret with id '%s'", id);
    return standard != NULL;
}

bool secret_use_file(const char *path) {
    struct img_key key;
    if (read_file(path, &key) < 0)
        return false;
    standard = keep("", key);
    return true;
}

/* ---- the terminal ------------------------------------------------------------------------------- */

/* Signals that end the program wait until the terminal is as it was: without an echo it would be of no use. */
static const int ending[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
#define ENDING (sizeof(ending) / sizeof(ending[0]))
static volatile sig_atomic_t ended_by;

static void on_ending(int signal_number) {
    ended_by = signal_number;
}

/* Without SA_RESTART: a read ends with the signal. What is ignored stays so. */
static void hold_signals(struct sigaction before[ENDING]) {
    const struct sigaction noting = {.sa_handler = on_ending};
    ended_by = 0;
    for (size_t i = 0; i < ENDING; i++) {
        sigaction(ending[i], NULL, &before[i]);
        if (before[i].sa_handler != SIG_IGN)
            sigaction(ending[i], &noting, NULL);
    }
}

static void let_signals_go(const struct sigaction before[ENDING]) {
    for (size_t i = 0; i < ENDING; i++)
        sigaction(ending[i], &before[i], NULL);
    if (ended_by)
        raise(ended_by);
}

/* False: the terminal has gone, or says that nothing comes, or the program is to end. */
static bool read_line(int tty, uint8_t *line, size_t *count) {
    ssize_t got = 0;
    char c = 0;
    *count = 0;
    while (!ended_by && (got = read(tty, &c, 1)) == 1 && c != '\n')
        if (*count < MAX_TYPED)
            line[(*count)++] = (uint8_t)c;
    OPENSSL_cleanse(&c, 1);
    return !ended_by && (got == 1 || *count > 0);
}

/* With the terminal silent, and without a way to stop the program meanwhile. */
static bool read_silently(int tty, const struct termios *before, struct img_key *key) {
    struct termios silent = *before;
    struct sigaction actions[ENDING];
    uint8_t *line = secret_memory(MAX_TYPED);
    *key = (struct img_key){line, 0};
    silent.c_lflag &= ~(tcflag_t)ECHO;
    silent.c_cc[VSUSP] = _POSIX_VDISABLE;
    hold_signals(actions);
    tcsetattr(tty, TCSAFLUSH, &silent);
    bool typed = read_line(tty, line, &key->length);
    tcsetattr(tty, TCSAFLUSH, before);
    dprintf(tty, "\n");
    if (!typed) {
        wipe(&(struct img_key){line, MAX_TYPED});
        *key = (struct img_key){0};
    }
    let_signals_go(actions);
    return typed;
}

/* From the terminal itself: the standard input may be something else. */
static int type(const char *question, const char *path, struct img_key *key) {
    int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    struct termios before;
    if (tty < 0)
        return -ENOKEY;
    if (tcgetattr(tty, &before) < 0) {
        close(tty);
        return -ENOKEY;
    }
    char *name = text_printable(path);
    dprintf(tty, "%s '%s': ", question, name);
    free(name);
    bool typed = read_silently(tty, &before, key);
    close(tty);
    return typed ? 0 : -ENOKEY;
}

int secret_ask(void *unused, const char *path, struct img_key *key) {
    (void)unused;
    if (standard) {
        *key = *standard;
        return 0;
    }
    char *id = text_format("/%s", path); /* no object has such a name: what was typed once is not asked for again */
    const struct img_key *known = secret_find(id);
    int ret = known ? 0 : type("Passphrase of", path, key);
    if (ret == 0)
        *key = known ? *known : *keep(id, *key);
    free(id);
    return ret;
}

int secret_ask_new(const char *path, struct img_key *key) {
    struct img_key again;
    if (standard) {
        *key = *standard;
        return 0;
    }
    int ret = type("New passphrase of", path, key);
    if (ret < 0)
        return ret;
    const struct img_key *kept = keep("", *key);
    ret = type("The same again, of", path, &again);
    bool same = ret == 0 && again.length == kept->length && CRYPTO_memcmp(again.bytes, kept->bytes, kept->length) == 0;
    if (ret == 0)
        wipe(&again);
    return same ? 0 : ret < 0 ? ret : -EINVAL;
}
