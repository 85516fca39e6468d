/* The floor: what it costs to bring bytes from a socket into files, without DICOM and without an interpreter.
 *
 * Each object comes as its length (8 bytes, little endian) and its bytes, and is answered with one byte once its file
 * has its final name. With DURABLE = 1 the file is synced, renamed, and its folder synced first, as the node does it.
 * A thread for each connection.
 *
 * usage: floor PORT FOLDER DURABLE
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <endian.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER_BYTES = 65536 }; /* more is slower: it no longer stays in the processor's cache */

static const char *folder;
static int durable;

static int store(int peer, uint64_t length, char *buffer, int number) {
    char temporary[512], final[512];
    snprintf(temporary, sizeof temporary, "%s/.incoming-%d-%d", folder, peer, number);
    snprintf(final, sizeof final, "%s/%d-%d", folder, peer, number);
    int file = open(temporary, O_WRONLY | O_CREAT | O_EXCL, 0640);
    if (file < 0)
        return 0;
    while (length) {
        ssize_t came = recv(peer, buffer, length < BUFFER_BYTES ? length : BUFFER_BYTES, 0);
        if (came <= 0 || write(file, buffer, came) != came)
            return 0;
        length -= came;
    }
    if ((durable && fdatasync(file)) || close(file) || rename(temporary, final))
        return 0;
    if (durable) {
        int directory = open(folder, O_RDONLY | O_DIRECTORY);
        if (directory < 0 || fsync(directory) || close(directory))
            return 0;
    }
    return 1;
}

static void *serve(void *connection) {
    int peer = (int)(intptr_t)connection;
    char *buffer = malloc(BUFFER_BYTES);
    uint64_t length;
    for (int number = 0; buffer && recv(peer, &length, sizeof length, MSG_WAITALL) == sizeof length; number++)
        if (!store(peer, le64toh(length), buffer, number) || send(peer, "k", 1, MSG_NOSIGNAL) != 1)
            break;
    free(buffer);
    close(peer);
    return NULL;
}

int main(int count, char **arguments) {
    if (count != 4)
        return 2;
    folder = arguments[2];
    durable = atoi(arguments[3]);
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(atoi(arguments[1])),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 64))
        return 1;
    for (;;) {
        int peer = accept(listener, NULL, NULL);
        if (peer < 0)
            continue;
        setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        pthread_t thread;
        if (pthread_create(&thread, NULL, serve, (void *)(intptr_t)peer))
            close(peer);
        else
            pthread_detach(thread);
    }
}
